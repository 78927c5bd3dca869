#include "ui/model/vp_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "ui/model/json_text.h"

namespace vg::model {
namespace {

bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

mmu::Translation peek(const FoundVp& at, u64 address) {
    mmu::Tlb& tlb = at.vp->tlb();
    if (tlb.mode().kind == mmu::PagingKind::Level4 && !canonical(address)) {
        mmu::Translation none;
        none.status = mmu::Translation::Status::Fault;
        return none;
    }
    return mmu::peek_walk(at.vp->physical(), tlb.mode(), tlb.slat(), Gva(address), mmu::Access::Read, false);
}

/// Calls `piece(address, count)` for each part of the range within one page, until it says false.
void by_page(u64 address, std::size_t size, const std::function<bool(u64 address, std::size_t count)>& piece) {
    while (size != 0) {
        const std::size_t count = std::min<std::size_t>(size, kPageSize - (address & kPageMask));
        if (!piece(address, count)) return;
        address += count;  // behind the last address comes the first
        size -= count;
    }
}

const u8* readable(const FoundVp& at, Space space, u64 address) {
    const auto spa = translate(at, space, address);
    return spa ? at.vp->physical().readable(*spa) : nullptr;
}

}  // namespace

std::optional<Space> parse_space(std::string_view name) {
    if (name == "linear") return Space::Linear;
    if (name == "physical") return Space::Physical;
    if (name == "machine") return Space::Machine;
    return std::nullopt;
}

std::optional<Gpa> linear_to_physical(const FoundVp& at, u64 address) {
    const mmu::Translation t = peek(at, address);
    if (t.status != mmu::Translation::Status::Ok) return std::nullopt;
    return t.gpa;
}

std::optional<Spa> physical_to_machine(const FoundVp& at, Gpa gpa) {
    if (at.partition == nullptr) return Spa(gpa.value);
    return at.partition->translate(gpa);
}

std::optional<Spa> translate(const FoundVp& at, Space space, u64 address) {
    switch (space) {
        case Space::Linear: {
            const mmu::Translation t = peek(at, address);
            if (t.status != mmu::Translation::Status::Ok) return std::nullopt;
            return t.spa;
        }
        case Space::Physical:
            return physical_to_machine(at, Gpa(address));
        case Space::Machine:
            return Spa(address);
    }
    return std::nullopt;
}

std::string read_bytes(const FoundVp& at, Space space, u64 address, std::size_t size) {
    std::string out;
    by_page(address, size, [&](u64 place, std::size_t count) {
        const u8* host = readable(at, space, place);
        if (host != nullptr) out.append(reinterpret_cast<const char*>(host), count);
        return host != nullptr;
    });
    return out;
}

std::string read_hex(const FoundVp& at, Space space, u64 address, std::size_t size) {
    std::string out;
    out.reserve(size * 2);
    by_page(address, size, [&](u64 place, std::size_t count) {
        const u8* host = readable(at, space, place);
        out += host == nullptr ? std::string(count * 2, '?')
                               : hex_bytes({reinterpret_cast<const char*>(host), count});
        return true;
    });
    return out;
}

Result<void> write_bytes(const FoundVp& at, Space space, u64 address, std::string_view bytes) {
    mmu::PhysicalMemory& memory = at.vp->physical();
    std::optional<u64> missing;
    by_page(address, bytes.size(), [&](u64 place, std::size_t) {
        const auto spa = translate(at, space, place);
        if (!spa || memory.ram(*spa) == nullptr) missing = place;
        return !missing;
    });
    if (missing) return fail(Error::Code::Usage, fmt::format("0x{:x} is not RAM; nothing was written", *missing));
    by_page(address, bytes.size(), [&](u64 place, std::size_t count) {
        // A table that was just written may lead elsewhere now.
        const auto spa = translate(at, space, place);
        if (spa && memory.ram(*spa) != nullptr) memory.write(*spa, bytes.data(), count);
        bytes.remove_prefix(count);
        return true;
    });
    return {};
}

}  // namespace vg::model
