// Messages between processes of one program: JSON objects, and now and then a descriptor with one.
#pragma once

#include <optional>
#include <string>

#include "ui/model/control_link.h"

namespace vg::model {

/// One end of a pair of sockets. The other side is trusted: it is this program.
class MessageChannel {
  public:
    MessageChannel() = default;
    /// Takes the descriptor.
    explicit MessageChannel(int file) : file_(file) {}
    ~MessageChannel() { close(); }
    MessageChannel(MessageChannel&& other) noexcept { *this = std::move(other); }
    MessageChannel& operator=(MessageChannel&& other) noexcept;
    /// Two ends that lead to each other. Error (Host): the host has no descriptors left.
    static Result<std::pair<MessageChannel, MessageChannel>> make_pair();

    struct Message {
        Json json;
        int file = -1;  ///< whoever receives it closes it
    };
    /// @param file  goes along, and stays open here; -1: none. False: the other side is gone
    bool send(const Json& message, int file = -1);
    /// The next message, if one comes within so long (-1: however long it takes).
    std::optional<Message> receive(int wait_ms);
    /// The other side has gone, or was never there.
    [[nodiscard]] bool closed() const { return file_ < 0 || gone_; }
    [[nodiscard]] int descriptor() const { return file_; }
    void close();

  private:
    bool read_more(int wait_ms);
    std::optional<Message> take();

    int file_ = -1;
    bool gone_ = false;
    std::string in_;
    int passed_ = -1;  ///< came with the bytes that are in `in_`
};

}  // namespace vg::model
