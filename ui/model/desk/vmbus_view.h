// VMBus as the analyser shows it: channels, packets decoded, requests matched with their completions, and one of them
// followed through everything that happened in between.
#pragma once

#include <unordered_map>

#include "ui/model/desk/event_table.h"
#include "ui/model/desk/live.h"

namespace vg::desk {

/// What a ring packet says, in one line; checks every length.
[[nodiscard]] std::string packet_text(const EventRow& row);
/// "READ(10)" and its like; hexadecimal if unknown.
[[nodiscard]] std::string scsi_name(u8 operation);

class VmbusView final : public View, public Table {
  public:
    explicit VmbusView(EventLog& log);
    void update(Session& session) override;
    [[nodiscard]] std::vector<std::string> text() const override;
    [[nodiscard]] bool waiting() const override { return channels_.waiting() || log_->waiting(); }

    [[nodiscard]] const Grid& channels() const { return channel_grid_; }
    [[nodiscard]] const Grid& messages() const { return message_grid_; }
    /// Packets: this view as a table.
    [[nodiscard]] const std::vector<Column>& columns() const override { return columns_; }
    [[nodiscard]] u64 rows() const override { return packets_.size(); }
    [[nodiscard]] Cell cell(u64 row, std::size_t column) const override;
    [[nodiscard]] const EventRow* packet(u64 row) const;

    /// Only packets of this channel; nothing: all.
    void set_channel(std::optional<u64> channel);
    /// Follows the request that this packet belongs to. False: there is no such packet.
    bool follow(u64 row);
    /// Follows the first request, at or behind row `from`, whose line contains the text. False: there is none.
    bool follow_text(std::string_view text, u64 from = 0);
    /// What happened from the request to its completion, in order; empty: nothing is followed.
    [[nodiscard]] const Grid& followed() const { return followed_; }
    [[nodiscard]] const std::string& followed_title() const { return followed_title_; }
    std::optional<u64> selected;

  private:
    struct Channel {
        std::string partition, name, state;
        u64 relid = 0;
        std::vector<std::string> numbers;
    };
    static std::vector<Channel> parse_channels(const Json& tree);
    static void find_channels(const Json& node, const std::string& path, unsigned depth, std::vector<Channel>& found);
    void take_packets();
    [[nodiscard]] std::optional<u32> partner(u32 index) const;

    EventLog* log_;
    Live<std::vector<Channel>> channels_;
    u64 channels_taken_ = 0;
    Grid channel_grid_, message_grid_, followed_;
    std::string followed_title_;
    std::vector<Column> columns_;
    std::optional<u64> channel_;
    std::vector<u32> packets_;                ///< shown: indexes in the log
    std::unordered_map<u32, u32> partner_;    ///< request <-> completion
    std::map<std::array<u64, 3>, u32> open_;  ///< partition, channel, transaction -> request
    std::size_t seen_ = 0, messages_seen_ = 0;
    u64 generation_ = 0;
};

}  // namespace vg::desk
