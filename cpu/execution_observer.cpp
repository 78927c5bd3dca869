#include "cpu/execution_observer.h"

#include <cstring>

#include "cpu/isa/isa.h"

namespace vg::cpu {

void AccessLog::add(u64 address, u32 size, bool write, const void* data) {
    if (count_ == kMost) return;
    Entry& entry = entries_[count_++];
    entry.address = address;
    entry.size = static_cast<u8>(size);
    entry.write = write;
    entry.known = values_ && data != nullptr;
    if (entry.known) std::memcpy(entry.data, data, size);
}

void TracedCode::add(const Insn& insn) {
    lengths.push_back(insn.length);
    bytes.insert(bytes.end(), insn.bytes, insn.bytes + insn.length);
    calls = insn.op == Op::CALL || insn.op == Op::CALL_FAR;
    returns = insn.op == Op::RET || insn.op == Op::RET_FAR;
}

}  // namespace vg::cpu
