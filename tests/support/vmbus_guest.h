// A guest's side of VMBus over plain memory: what the tests and fuzz targets of hv/vmbus and hv/vsp talk through.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/log.h"
#include "hv/spec/vmbus.h"
#include "hv/vmbus/channel.h"
#include "hv/vmbus/server.h"

namespace vg::test {

namespace vmbus = hv::vmbus;

/// Guest memory from address 0, and a record of every effect.
class FakeWorld final : public vmbus::Notifier {
  public:
    explicit FakeWorld(std::size_t pages = 1024) : memory(pages * kPageSize) {}

    bool send_message(u32 vp, u8 sint, std::span<const u8> message) override {
        if (!accept_messages) return false;
        messages.emplace_back(message.begin(), message.end());
        last_vp = vp;
        last_sint = sint;
        return true;
    }
    void signal_guest(u32 vp, u8 sint, u16 flag) override { signals.push_back({vp, sint, flag}); }
    bool connect_event(u32 id) override { return events.insert(id).second; }
    void disconnect_event(u32 id) override { events.erase(id); }
    bool read_guest(u64 gpa, void* out, u64 size) override {
        if (gpa > memory.size() || size > memory.size() - gpa) return false;
        if (on_read) on_read(gpa, size);
        std::memcpy(out, memory.data() + gpa, size);
        return true;
    }
    bool write_guest(u64 gpa, const void* data, u64 size) override {
        if (gpa > memory.size() || size > memory.size() - gpa) return false;
        if (on_write) on_write(gpa, size);
        if (size != 0) std::memcpy(memory.data() + gpa, data, size);
        return true;
    }

    template <class T>
    T get(u64 gpa) const {
        T value;
        std::memcpy(&value, memory.data() + gpa, sizeof value);
        return value;
    }
    template <class T>
    void set(u64 gpa, const T& value) {
        std::memcpy(memory.data() + gpa, &value, sizeof value);
    }

    struct Signal {
        u32 vp;
        u8 sint;
        u16 flag;
        bool operator==(const Signal&) const = default;
    };
    std::vector<u8> memory;
    std::vector<std::vector<u8>> messages;
    std::vector<Signal> signals;
    std::set<u32> events;
    bool accept_messages = true;
    u32 last_vp = 0;
    u8 last_sint = 0;
    std::function<void(u64 gpa, u64 size)> on_read, on_write;  ///< just before it happens
};

/// One ring as its guest uses it: Linux's rules of writing, reading, signalling and interrupt suppression.
class GuestRing {
  public:
    GuestRing(FakeWorld& world, u64 control, u32 data_size) : world_(&world), control_(control), size_(data_size) {}

    [[nodiscard]] vmbus::RingControl control() const { return world_->get<vmbus::RingControl>(control_); }
    void set_write_index(u32 value) { world_->set<u32>(control_, value); }
    void set_read_index(u32 value) { world_->set<u32>(control_ + 4, value); }
    void set_mask(u32 value) { world_->set<u32>(control_ + 8, value); }
    void set_pending(u32 value) { world_->set<u32>(control_ + 12, value); }
    void set_features(u32 value) { world_->set<u32>(control_ + vmbus::kRingFeatureOffset, value); }
    [[nodiscard]] u32 features() const { return world_->get<u32>(control_ + vmbus::kRingFeatureOffset); }
    [[nodiscard]] u32 size() const { return size_; }
    [[nodiscard]] u64 control_page() const { return control_; }
    [[nodiscard]] u32 used() const {
        const auto c = control();
        return c.write_index >= c.read_index ? c.write_index - c.read_index : size_ - (c.read_index - c.write_index);
    }
    [[nodiscard]] u32 free() const { return size_ - used(); }

    struct Written {
        bool room = false;
        bool signal = false;  ///< the host must be signalled
    };
    /// Writes a packet with a trailer. `extension` lies between descriptor and payload.
    Written write(vmbus::PacketType type, u16 flags, u64 transaction_id, std::span<const u8> payload,
                  std::span<const u8> extension = {}) {
        const u32 header = 16 + static_cast<u32>(extension.size());
        const u32 total = (header + static_cast<u32>(payload.size()) + 7) / 8 * 8;
        if (free() <= total + 8) return {};
        std::vector<u8> bytes(total + 8);
        const vmbus::PacketDescriptor descriptor = {static_cast<u16>(type), static_cast<u16>(header / 8),
                                                    static_cast<u16>(total / 8), flags, transaction_id};
        std::memcpy(bytes.data(), &descriptor, 16);
        if (!extension.empty()) std::memcpy(bytes.data() + 16, extension.data(), extension.size());
        if (!payload.empty()) std::memcpy(bytes.data() + header, payload.data(), payload.size());
        const u64 trailer = u64{control().write_index} << 32;
        std::memcpy(bytes.data() + total, &trailer, 8);
        return write_raw(bytes);
    }
    /// Writes bytes as they are and publishes them.
    Written write_raw(std::span<const u8> bytes) {
        const auto before = control();
        u32 at = before.write_index;
        while (!bytes.empty()) {
            const auto part = bytes.first(std::min<std::size_t>(bytes.size(), size_ - at));
            std::memcpy(&world_->memory[control_ + kPageSize + at], part.data(), part.size());
            at = (at + static_cast<u32>(part.size())) % size_;
            bytes = bytes.subspan(part.size());
        }
        set_write_index(at);
        return {true, before.interrupt_mask == 0 && before.read_index == before.write_index};
    }

    struct Packet {
        vmbus::PacketDescriptor descriptor;
        std::vector<u8> payload;
        u32 trailer_index;
        bool signal_host = false;  ///< the host waits for the freed space (V-74)
    };
    std::optional<Packet> read() {
        const auto c = control();
        if (c.read_index == c.write_index) return std::nullopt;
        Packet packet;
        copy(c.read_index, &packet.descriptor, 16);
        const u32 total = u32{packet.descriptor.total_length8} * 8;
        const u32 offset = u32{packet.descriptor.data_offset8} * 8;
        packet.payload.resize(total - offset);
        copy((c.read_index + offset) % size_, packet.payload.data(), packet.payload.size());
        u64 trailer;
        copy((c.read_index + total) % size_, &trailer, 8);
        packet.trailer_index = static_cast<u32>(trailer >> 32);
        const u32 free_before = free();
        set_read_index((c.read_index + total + 8) % size_);
        packet.signal_host = (features() & 1) != 0 && c.pending_send_size != 0 && free_before <= c.pending_send_size &&
                             free() > c.pending_send_size;
        return packet;
    }

  private:
    void copy(u32 at, void* out, std::size_t count) const {
        for (u8* to = static_cast<u8*>(out); count != 0;) {
            at %= size_;
            const std::size_t part = std::min<std::size_t>(count, size_ - at);
            std::memcpy(to, &world_->memory[control_ + kPageSize + at], part);
            at += static_cast<u32>(part);
            to += part;
            count -= part;
        }
    }
    FakeWorld* world_;
    u64 control_;
    u32 size_;
};

/// Sends channel messages as Linux does and looks at the answers.
class VmbusGuest {
  public:
    VmbusGuest(FakeWorld& world, vmbus::Server& server) : world_(world), server_(server) {}

    template <class Message>
    void post(vmbus::MessageType type, Message message, std::span<const u8> tail = {}) {
        message.header = {static_cast<u32>(type), 0};
        std::vector<u8> bytes(sizeof message + tail.size());
        std::memcpy(bytes.data(), &message, sizeof message);
        if (!tail.empty()) std::memcpy(bytes.data() + sizeof message, tail.data(), tail.size());
        server_.on_message(bytes);
    }
    /// The next unread message as this type; nullopt if there is none, or it is another, or of another size.
    template <class Message>
    std::optional<Message> receive(vmbus::MessageType type) {
        if (next_ >= world_.messages.size()) return std::nullopt;
        const auto& bytes = world_.messages[next_];
        Message message;
        if (bytes.size() != sizeof message) return std::nullopt;
        std::memcpy(&message, bytes.data(), sizeof message);
        if (message.header.type != static_cast<u32>(type)) return std::nullopt;
        ++next_;
        return message;
    }
    [[nodiscard]] std::size_t unread() const { return world_.messages.size() - next_; }
    void forget() { next_ = world_.messages.size(); }

    std::optional<vmbus::VersionResponse> contact(u32 version, u32 vp = 0, u8 sint = 2) {
        vmbus::InitiateContact message{};
        message.version = version;
        message.target_vp = vp;
        message.interrupt_page_or_target = version >= vmbus::kVersion5_0 ? sint : kInterruptPage;
        message.parent_to_child_monitor = 0x2000;
        message.child_to_parent_monitor = 0x3000;
        post(vmbus::MessageType::InitiateContact, message);
        return receive<vmbus::VersionResponse>(vmbus::MessageType::VersionResponse);
    }
    /// REQUESTOFFERS; every offer up to ALLOFFERS_DELIVERED.
    std::vector<vmbus::OfferChannel> request_offers() {
        post(vmbus::MessageType::RequestOffers, vmbus::RequestOffers{});
        std::vector<vmbus::OfferChannel> offers;
        while (const auto offer = receive<vmbus::OfferChannel>(vmbus::MessageType::OfferChannel))
            offers.push_back(*offer);
        return offers;
    }
    /// Establishes a GPADL over one range as Linux does: at most 26 page numbers in the header, 28 per body.
    /// Returns the status of GPADL_CREATED, or nothing without an answer.
    std::optional<u32> create_gpadl(u32 relid, u32 handle, std::span<const u64> pfns) {
        vmbus::GpadlHeader header{};
        header.relid = relid;
        header.gpadl = handle;
        header.range_bytes = static_cast<u16>(8 + 8 * pfns.size());
        header.range_count = 1;
        const vmbus::GpaRange range = {static_cast<u32>(pfns.size() * kPageSize), 0};
        std::vector<u64> words(1);
        std::memcpy(words.data(), &range, 8);
        const std::size_t first = std::min<std::size_t>(pfns.size(), 26);
        words.insert(words.end(), pfns.begin(), pfns.begin() + static_cast<std::ptrdiff_t>(first));
        post(vmbus::MessageType::GpadlHeader, header, bytes(words));
        bodies = 0;
        for (std::size_t at = first; at < pfns.size(); ++bodies) {
            const std::size_t count = std::min<std::size_t>(pfns.size() - at, 28);
            early_answer |= unread() != 0;
            post(vmbus::MessageType::GpadlBody, vmbus::GpadlBody{{}, 0, handle}, bytes(pfns.subspan(at, count)));
            at += count;
        }
        const auto created = receive<vmbus::GpadlCreated>(vmbus::MessageType::GpadlCreated);
        if (!created || created->relid != relid || created->gpadl != handle) return std::nullopt;
        return created->status;
    }
    std::optional<vmbus::OpenResult> open(u32 relid, u32 gpadl, u32 split, u32 target_vp = 0) {
        vmbus::OpenChannel message{};
        message.relid = relid;
        message.open_id = relid;
        message.ring_gpadl = gpadl;
        message.target_vp = target_vp;
        message.downstream_page_offset = split;
        post(vmbus::MessageType::OpenChannel, message);
        return receive<vmbus::OpenResult>(vmbus::MessageType::OpenResult);
    }
    /// Fresh consecutive page numbers.
    std::vector<u64> pages(std::size_t count) {
        std::vector<u64> pfns(count);
        for (u64& pfn : pfns) pfn = next_page_++;
        return pfns;
    }
    struct Pair {
        GuestRing out, in;  ///< guest to host, host to guest
        u32 gpadl;
    };
    /// Rings of `pages_each` pages per direction, opened. Asserts nothing: look at `open_status`.
    Pair open_rings(u32 relid, u32 pages_each = 5) {
        const auto pfns = pages(2 * pages_each);
        const u32 handle = next_handle_++;
        const u64 base = pfns[0] << 12;
        const u32 data = (pages_each - 1) * static_cast<u32>(kPageSize);
        Pair pair{{world_, base, data}, {world_, base + pages_each * kPageSize, data}, handle};
        pair.out.set_features(1);  // Linux announces flow control on both rings
        pair.in.set_features(1);
        create_gpadl(relid, handle, pfns);
        const auto result = open(relid, handle, pages_each);
        open_status = result ? result->status : 0xffff'ffff;
        return pair;
    }

    static constexpr u64 kInterruptPage = 0x1000;
    std::size_t bodies = 0;     ///< BODY messages of the latest create_gpadl
    bool early_answer = false;  ///< something was answered before the last body
    u32 open_status = 0;

  private:
    static std::span<const u8> bytes(std::span<const u64> words) {
        return {reinterpret_cast<const u8*>(words.data()), words.size() * 8};
    }
    FakeWorld& world_;
    vmbus::Server& server_;
    std::size_t next_ = 0;
    u64 next_page_ = 16;
    u32 next_handle_ = 0xE1E10;
};

/// A device that records what happens and echoes nothing by itself.
class FakeDevice final : public vmbus::ChannelDevice {
  public:
    struct Received {
        u16 sub_channel;
        vmbus::PacketType type;
        u64 transaction_id;
        std::vector<u8> extension, payload;
    };
    void opened(vmbus::Channel& channel) override {
        ++opens;
        open.insert(&channel);
        last = &channel;
    }
    void signalled(vmbus::Channel& channel) override {
        ++signals;
        vmbus::Packet packet;
        for (u32 taken = 0; taken < limit && channel.read_packet(packet); ++taken) {
            received.push_back({channel.sub_channel(),
                                packet.type,
                                packet.transaction_id,
                                {packet.extension.begin(), packet.extension.end()},
                                {packet.payload.begin(), packet.payload.end()}});
        }
    }
    void closed(vmbus::Channel& channel) override {
        ++closes;
        open.erase(&channel);
    }
    void fields(StateVisitor&) override {}

    u32 opens = 0, closes = 0, signals = 0;
    u32 limit = ~0u;  ///< packets taken per signal
    std::set<vmbus::Channel*> open;
    vmbus::Channel* last = nullptr;
    std::vector<Received> received;
};

}  // namespace vg::test
