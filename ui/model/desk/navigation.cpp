#include "ui/model/desk/navigation.h"

namespace vg::desk {

void Navigation::leave(const Place& from) {
    if (!back_.empty() && back_.back() == from) return;
    back_.push_back(from);
    ahead_.clear();
    if (back_.size() > kMax) back_.pop_front();
}

std::optional<Place> Navigation::take(std::deque<Place>& from, std::deque<Place>& to, const Place& here) {
    if (from.empty()) return {};
    const Place place = from.back();
    from.pop_back();
    to.push_back(here);
    return place;
}

}  // namespace vg::desk
