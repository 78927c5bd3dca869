// Where one was, and back: as in a browser.
#pragma once

#include <deque>
#include <optional>

#include "ui/model/desk/layout.h"
#include "ui/model/desk/memory_view.h"

namespace vg::desk {

/// What a panel was looking at.
struct Place {
    Panel panel = Panel::Disassembly;
    VpId vp;
    Space space = Space::Linear;
    std::optional<u64> address;  ///< nothing: the code at RIP
    friend bool operator==(const Place&, const Place&) = default;
};

class Navigation {
  public:
    static constexpr std::size_t kMax = 256;
    /// Leaves a place for another: what was ahead is forgotten.
    void leave(const Place& from);
    /// Nothing: there is no way back (ahead).
    [[nodiscard]] std::optional<Place> back(const Place& from) { return take(back_, ahead_, from); }
    [[nodiscard]] std::optional<Place> forward(const Place& from) { return take(ahead_, back_, from); }
    [[nodiscard]] bool can_go_back() const { return !back_.empty(); }
    [[nodiscard]] bool can_go_forward() const { return !ahead_.empty(); }
    void clear() {
        back_.clear();
        ahead_.clear();
    }

  private:
    static std::optional<Place> take(std::deque<Place>& from, std::deque<Place>& to, const Place& here);
    std::deque<Place> back_, ahead_;
};

}  // namespace vg::desk
