// The record behind isa_coverage.h, and the hook in the interpreter: the linker redirects calls of cpu::execute to here
// (tests/CMakeLists.txt), so that the program itself has no hook.
#include "tests/support/isa_coverage.h"

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "cpu/interp.h"
#include "cpu/isa/encoding.h"

namespace vg::test {

namespace {

constexpr const char* kNames[] = {"body", "fault", "native", "helper", "host", "reference"};

constexpr const char* kOperandNames[] = {
    "",
#define OPERAND(name, source, file, register_size, memory_size) #name,
#include "cpu/isa/operands.def"
#undef OPERAND
};

class Record {
  public:
    static Record& instance() {
        static Record record;
        return record;
    }

    [[nodiscard]] bool wanted() const { return !file_.empty(); }

    void note(u16 row, Exercise how) {
        if (file_.empty()) return;
        rows_[static_cast<unsigned>(how)].insert(row);
    }

    void test_ended(const std::string& name) {
        if (file_.empty()) return;
        std::string text;
        for (auto& [how, rows] : rows_) {
            text += std::string("test\t") + kNames[how] + "\t" + name + "\t";
            for (const u16 row : rows) text += std::to_string(row) + " ";
            text += "\n";
        }
        rows_.clear();
        // One write: several test programs may append at the same time.
        std::ofstream(file_, std::ios::app) << text << std::flush;
    }

    void write_rows() const {
        if (file_.empty()) return;
        std::string text;
        for (u16 index = 1; index < cpu::row_count(); ++index) {
            const cpu::Encoding& encoding = cpu::encodings()[index];
            static constexpr const char* kMaps[] = {"", "0F ", "0F38 ", "0F3A ", "VEX.0F ", "VEX.0F38 ", "VEX.0F3A "};
            char place[64];
            std::snprintf(place, sizeof place, "%s%02X", kMaps[static_cast<unsigned>(encoding.row.map)], encoding.row.opcode);
            text += "row\t" + std::to_string(index) + "\t" + place + "\t" + std::string(cpu::op_name(encoding.row.op)) + "\t";
            for (unsigned k = 0; k < encoding.operand_count; ++k)
                text += std::string(k == 0 ? "" : ",") + kOperandNames[static_cast<unsigned>(encoding.operands[k])];
            text += "\t" + std::string(cpu::feature_name(encoding.row.feature)) + "\n";
        }
        std::ofstream(file_, std::ios::app) << text << std::flush;
    }

  private:
    Record() {
        if (const char* file = std::getenv("VG_ISA_COVERAGE")) file_ = file;
    }
    std::string file_;
    std::map<unsigned, std::set<u16>> rows_;
};

struct Listener : Catch::TestEventListenerBase {
    using TestEventListenerBase::TestEventListenerBase;
    void testRunStarting(const Catch::TestRunInfo&) override { Record::instance().write_rows(); }
    void testCaseEnded(const Catch::TestCaseStats& stats) override { Record::instance().test_ended(stats.testInfo.name); }
};
CATCH_REGISTER_LISTENER(Listener)

}  // namespace

bool coverage_wanted() { return Record::instance().wanted(); }

void exercised(u16 row, Exercise how) { Record::instance().note(row, how); }

// cpu::execute(Interp&, const Insn&)
cpu::Exec real_execute(cpu::Interp& in, const cpu::Insn& i) __asm__("__real__ZN2vg3cpu7executeERNS0_6InterpERKNS0_4InsnE");
cpu::Exec wrapped_execute(cpu::Interp& in, const cpu::Insn& i) __asm__("__wrap__ZN2vg3cpu7executeERNS0_6InterpERKNS0_4InsnE");

cpu::Exec wrapped_execute(cpu::Interp& in, const cpu::Insn& i) {
    const u16 row = i.row;  // the record may be reused by what it does
    const cpu::Exec result = real_execute(in, i);
    exercised(row, result == cpu::Exec::Fault ? Exercise::Fault : Exercise::Body);
    return result;
}

}  // namespace vg::test
