// Panels that say how the machine is put together: partitions, page walks, SynIC, translated code, screen, console.
#pragma once

#include "ui/model/desk/event_table.h"
#include "ui/model/desk/live.h"
#include "ui/model/desk/view.h"

namespace vg::desk {

/// Partitions and their VPs as a tree that is two deep, with what the hypervisor knows of each.
class PartitionsView final : public View {
  public:
    PartitionsView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override { return table_text(grid_); }
    [[nodiscard]] bool waiting() const override { return details_.waiting(); }
    [[nodiscard]] const Grid& grid() const { return grid_; }
    /// Whom a row means: a partition's row its first VP.
    [[nodiscard]] std::optional<VpId> vp_of(u64 row) const;
    [[nodiscard]] bool is_partition(u64 row) const { return row < rows_.size() && rows_[row].second; }

  private:
    Live<std::map<u64, std::string>> details_;
    Grid grid_;
    std::vector<std::pair<VpId, bool>> rows_;  ///< and whether it is a partition's
    std::pair<u64, u64> made_{};
};

/// The guest's walk of one address and the second-level walk of its end.
class WalkView final : public View {
  public:
    WalkView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return address_ && live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }
    void go_to(u64 address) { address_ = address; }
    [[nodiscard]] std::optional<u64> address() const { return address_; }
    [[nodiscard]] const Grid& guest() const { return guest_; }
    [[nodiscard]] const Grid& second() const { return second_; }
    [[nodiscard]] const std::string& verdict() const { return verdict_; }
    [[nodiscard]] bool faulted() const { return faulted_; }
    /// Where the entry of a row of guest() lies (guest-physical).
    [[nodiscard]] std::optional<u64> entry_address(u64 row) const;

  private:
    Live<Json> live_;
    std::optional<u64> address_;
    Grid guest_, second_;
    std::vector<u64> places_;
    std::string verdict_;
    bool faulted_ = false;
    u64 taken_ = 0;
};

/// The synthetic interrupt controller of the VP that is looked at.
class SynicView final : public View {
  public:
    explicit SynicView(EventLog& log);
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }
    [[nodiscard]] const Grid& pages() const { return pages_; }
    [[nodiscard]] const Grid& sints() const { return sints_; }
    [[nodiscard]] EventTable& events() { return events_; }
    std::optional<u64> selected;

  private:
    Live<Json> live_;
    Grid pages_, sints_;
    EventLog* log_;
    EventTable events_;
    u64 taken_ = 0;
};

/// DMA remapping: domains, devices, faults, and what devices did.
class IommuView final : public View {
  public:
    explicit IommuView(EventLog& log);
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }
    [[nodiscard]] const Grid& grid() const { return grid_; }
    [[nodiscard]] EventTable& events() { return events_; }
    std::optional<u64> selected;

  private:
    Live<Json> live_;
    Grid grid_;
    EventLog* log_;
    EventTable events_;
    u64 taken_ = 0;
};

/// The translator: hottest blocks, and one of them as guest and host code.
class TranslatorView final : public View {
  public:
    TranslatorView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }
    [[nodiscard]] const Grid& blocks() const { return blocks_; }
    /// Guest instructions, each beside the first line of its host code: both lists are equally long.
    [[nodiscard]] const std::vector<std::string>& guest_code() const { return guest_; }
    [[nodiscard]] const std::vector<std::string>& host_code() const { return host_; }
    [[nodiscard]] const std::string& block_problem() const { return block_.error(); }
    [[nodiscard]] std::optional<u64> address() const { return address_; }
    void go_to(u64 address) { address_ = address; }
    [[nodiscard]] std::optional<u64> block_address(u64 row) const;

  private:
    void take_block(const Json& block);
    Live<Json> live_, block_;
    Grid blocks_;
    std::vector<u64> addresses_;
    std::vector<std::string> guest_, host_;
    std::optional<u64> address_;
    u64 taken_ = 0, block_taken_ = 0;
};

/// A guest's display as the file that the link sent.
class ScreenView final : public View {
  public:
    ScreenView();
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return live_.waiting(); }
    [[nodiscard]] std::string problem() const override { return live_.error(); }
    /// A PNG file, not trusted; empty: none.
    [[nodiscard]] const std::string& png() const;
    /// Grows with every new picture.
    [[nodiscard]] u64 version() const { return live_.answers(); }

  private:
    struct Picture {
        std::string png;
        u64 width = 0, height = 0;
    };
    Live<Picture> live_;
};

/// Bytes of base64 text; empty if it is none.
[[nodiscard]] std::string parse_base64(std::string_view text, std::size_t limit);

}  // namespace vg::desk
