// Memory of any space as rows of bytes, read a page at a time, with marks for what changed.
#pragma once

#include <array>

#include "ui/model/desk/view.h"

namespace vg::desk {

enum class Space : u8 { Linear, Physical, Machine };
[[nodiscard]] std::string_view space_name(Space space);
[[nodiscard]] std::optional<Space> parse_space(std::string_view name);

class MemoryView final : public View {
  public:
    static constexpr unsigned kRowBytes = 16;
    enum class Known : u8 { Waiting, Absent, Present };
    struct Byte {
        Known known = Known::Waiting;
        u8 value = 0;
        bool changed = false;  ///< since the last stop
    };

    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return !asking_->empty(); }
    [[nodiscard]] std::string problem() const override { return *error_; }

    void go_to(Space space, u64 address);
    [[nodiscard]] Space space() const { return space_; }
    void set_space(Space space);
    /// Address of the first row, a multiple of the row's bytes; addresses wrap around.
    [[nodiscard]] u64 top() const { return top_; }
    void scroll(s64 rows) { top_ += static_cast<u64>(rows) * kRowBytes; }
    [[nodiscard]] u64 marked() const { return marked_; }
    void mark(u64 address) { marked_ = address; }
    /// Rows that the panel has room for: what is read.
    void set_visible(std::size_t rows) { visible_ = std::min<std::size_t>(rows, 512); }
    [[nodiscard]] Byte byte(u64 address) const;
    /// One row as text: address, bytes, characters.
    [[nodiscard]] std::string row_text(u64 address) const;

  private:
    static constexpr u64 kPage = 4096;
    struct Page {
        std::vector<int> bytes, at_stop, before;
        u64 version = 0, stops = 0;
    };
    using Pages = std::map<u64, Page>;
    void ask(Session& session, u64 page);

    Space space_ = Space::Linear;
    u64 top_ = 0, marked_ = 0;
    std::size_t visible_ = 16;
    VpId vp_;
    // Shared with requests on their way, which may outlive a change of space: those then write into the old ones.
    std::shared_ptr<Pages> pages_ = std::make_shared<Pages>();
    std::shared_ptr<std::map<u64, bool>> asking_ = std::make_shared<std::map<u64, bool>>();
    std::shared_ptr<std::string> error_ = std::make_shared<std::string>();
    void forget();
};

}  // namespace vg::desk
