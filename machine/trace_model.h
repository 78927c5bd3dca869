// What writer and reader of a trace's Code chunk both know at each point of it: so the writer only says where that is
// wrong.
#pragma once

#include <vector>

#include "cpu/execution_observer.h"
#include "machine/spec/trace.h"
#include "machine/trace_record.h"

namespace vg::machine {

/// Of one chunk. All VPs share the places; each has its own thread of execution.
class TraceModel {
  public:
    struct Place {
        u64 rip = 0;
        cpu::TracedCode code;
        u32 first_site = 0;  ///< of its accesses among all
        u32 first_way = 0;   ///< of its ways out among all
        [[nodiscard]] u32 count() const { return static_cast<u32>(code.lengths.size()); }
    };
    /// Instructions `from` to `to` of a place.
    struct Step {
        u32 place = 0;
        u16 from = 0, to = 0;
        bool operator==(const Step&) const = default;
    };
    /// The last steps behind one way out, the latest first.
    using Followers = std::array<Step, 3>;
    static constexpr Step kNoStep{~u32{0}, 0, 0};

    TraceModel();
    void reset();

    u32 add(Place place);
    [[nodiscard]] const Place& place(u32 index) const { return places_[index]; }
    [[nodiscard]] std::size_t places() const { return places_.size(); }

    // ---- flow
    /// Steps that are likely to come next on the present VP; they are to be told of what came by followed().
    [[nodiscard]] const Followers& expected() { return here(); }
    void followed(Step step);
    /// From here on it is this VP. @param vp  number, below kMostVps
    void select(u32 vp);

    // ---- addresses
    [[nodiscard]] u64 predict(u32 site, u8 base, unsigned predictor) const;
    [[nodiscard]] unsigned favourite(u32 site) const { return sites_[site].favourite; }
    void learn(u32 site, u8 base, u64 address, unsigned right);

  private:
    struct Site {
        u64 last = 0;
        s64 distance = 0;  ///< from the last access by its base
        s64 stride = 0;
        unsigned favourite = 0;
    };
    struct Thread {
        u32 way = 0;  ///< out of the last step
        bool returned = false;
        std::vector<u32> calls;  ///< ways of calls, a ring
        u32 top = 0, depth = 0;
        std::array<u64, cpu::TracedCode::kBases> bases{};
    };
    [[nodiscard]] static u32 history_index(u32 site, u64 last);
    [[nodiscard]] Followers& here();

    std::vector<Place> places_;
    std::vector<Site> sites_;
    std::vector<Followers> next_;     ///< behind each way
    std::vector<Followers> returns_;  ///< behind the return to each way, if that is a call
    std::vector<u64> history_;
    std::vector<Thread> threads_;
    u32 thread_ = 0;
};

}  // namespace vg::machine
