// What a child has on VMBus besides disks and networks: integration services, keyboard, mouse, video, dynamic memory.
// The cores, their devices, and what the host tells them.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "hv/ic/command_service.h"
#include "hv/ic/heartbeat.h"
#include "hv/ic/time_sync.h"
#include "hv/parent/built_in_parent.h"
#include "hv/parent/message_device.h"
#include "hv/vsp/balloon.h"
#include "hv/vsp/keyboard.h"
#include "hv/vsp/mouse.h"
#include "hv/vsp/video.h"
#include "machine/config.h"
#include "machine/guest_command.h"
#include "machine/guest_pages.h"

namespace vg::machine {

class Gen1Board;

/// How a command of the host went.
struct CommandResult {
    enum class State : u8 {
        Waiting,  ///< the guest has not answered yet
        Done,
        Failed,  ///< the guest refused: `status`
        Gone     ///< its driver went away, or knows none of the versions
    };
    u64 number = 0;
    GuestCommand::Kind kind{};
    State state = State::Waiting;
    u32 status = 0;        ///< hv::ic::kStatus...
    u64 bytes = 0;         ///< Memory: what the guest has now
    std::vector<u8> body;  ///< the answer, for parse_kvp_answer
};

class ChildServices final : private hv::ic::CommandClient,
                            private hv::ic::HostTime,
                            private hv::vsp::VideoHost,
                            private hv::vsp::BalloonHost {
  public:
    static constexpr u64 kVideoBytes = u64{8} << 20;
    static constexpr std::size_t kMaxWaiting = 32;   ///< commands that no guest has answered
    static constexpr std::size_t kMaxResults = 128;  ///< commands whose end is remembered, the waiting ones included

    /// What the child is made of.
    struct Board {
        std::string name;  ///< of the child: unique in the machine
        EventQueue& events;
        hv::Partition& partition;
        hv::parent::BuiltInParent& parent;
        mmu::PhysicalMemory& memory;
        Spa ram;           ///< of ChildSection::memory_limit() bytes
        u64 memory_bytes;  ///< mapped at the start
        u64 memory_limit;
        Spa video;          ///< of kVideoBytes, if there is video
        u64 start_seconds;  ///< wall clock at virtual time 0, since 1970
        Gen1Board* legacy = nullptr;  ///< of generation 1: its board
    };
    ChildServices(const Board& board, const ChildDevicesSection& section);
    ~ChildServices() override;

    /// Offers the devices. Once.
    void offer();
    /// Carries a command out, or sees to it that it will be. Error (Usage): why not; nothing has changed then.
    /// Returns its number; 0 for keys, mouse and time: these have no answer.
    [[nodiscard]] Result<u64> run(const GuestCommand& command);
    /// Null: no such command, or too long ago.
    [[nodiscard]] const CommandResult* result(u64 number) const;

    // What there is; null: switched off.
    [[nodiscard]] const hv::ic::HeartbeatService* heartbeat() const { return heartbeat_ ? &heartbeat_->core : nullptr; }
    [[nodiscard]] const hv::ic::TimeSyncService* time_sync() const { return time_ ? &time_->core : nullptr; }
    [[nodiscard]] const hv::ic::CommandService* command_service(hv::ic::MessageType type) const;
    [[nodiscard]] const hv::vsp::Keyboard* keyboard() const { return keyboard_ ? &keyboard_->core : nullptr; }
    [[nodiscard]] const hv::vsp::Mouse* mouse() const { return mouse_ ? &mouse_->core : nullptr; }
    [[nodiscard]] const hv::vsp::Video* video() const { return video_ ? &video_->core : nullptr; }
    [[nodiscard]] const hv::vsp::Balloon* balloon() const { return balloon_ ? &balloon_->core : nullptr; }
    /// A part of the frame buffer, which a guest of generation 1 may have in its own RAM. False: it is not (any more).
    [[nodiscard]] bool read_frame(u64 offset, std::span<u8> out) const;
    /// Bytes of memory that the guest has now.
    [[nodiscard]] u64 memory_bytes() const;
    void fields(StateVisitor& v);

  private:
    /// A core and the device that owns its channel, which is the parent's.
    template <class Core>
    struct Service {
        Core core;
        hv::parent::MessageDevice* device = nullptr;
        template <class... Arguments>
        explicit Service(Arguments&&... arguments) : core(std::forward<Arguments>(arguments)...) {}
    };
    struct Waiting {
        u64 number = 0;
        hv::ic::MessageType type{};
        std::vector<u8> body;
    };

    template <class Core>
    void add(Service<Core>* service, const char* name, const hv::Guid& type, const hv::Guid& instance, bool pipe,
             u16 mmio_megabytes = 0);
    [[nodiscard]] Service<hv::ic::CommandService>* service_of(hv::ic::MessageType type) const;
    [[nodiscard]] Result<u64> run_integration(const GuestCommand& command);
    [[nodiscard]] Result<u64> run_memory(const GuestCommand& command);
    [[nodiscard]] Result<u64> press(const GuestCommand& command);
    u64 note(GuestCommand::Kind kind);
    CommandResult* find(u64 number);
    void submit_next(hv::ic::MessageType type);
    /// Goes on towards memory_target_. False: nothing more can be done.
    bool pursue_memory();
    void end_memory();
    void command_fields(StateVisitor& v);

    // CommandClient
    void finished(hv::ic::MessageType service, u64 number, End end, u32 status, std::span<const u8> body) override;
    // HostTime
    u64 now_100ns() const override;
    u64 reference() const override { return board_.partition.reference_time(); }
    u64 start_seconds() const override { return board_.start_seconds; }
    // VideoHost
    bool place(u64 gpa) override;
    // BalloonHost
    bool take(hv::vsp::PageSpan pages) override { return pages_.take(pages.first, pages.count); }
    bool give(hv::vsp::PageSpan pages) override { return pages_.give(pages.first, pages.count); }
    void finished(hv::vsp::BalloonOperation operation, u64 pages) override;

    Board board_;
    GuestPages pages_;
    std::unique_ptr<Service<hv::ic::HeartbeatService>> heartbeat_;
    std::unique_ptr<Service<hv::ic::TimeSyncService>> time_;
    std::unique_ptr<Service<hv::ic::CommandService>> shutdown_, kvp_, vss_;
    std::unique_ptr<Service<hv::vsp::Keyboard>> keyboard_;
    std::unique_ptr<Service<hv::vsp::Mouse>> mouse_;
    std::unique_ptr<Service<hv::vsp::Video>> video_;
    std::unique_ptr<Service<hv::vsp::Balloon>> balloon_;
    std::deque<Waiting> waiting_;
    std::deque<CommandResult> results_;
    u64 last_number_ = 0;
    u64 memory_target_ = 0;   ///< bytes
    u64 memory_command_ = 0;  ///< its number; 0: none
    bool framed_ = false;     ///< the frame buffer is in the guest's space
    u64 frame_gpa_ = 0;
    bool frame_in_ram_ = false;  ///< of the guest, and nothing is shown in its place
};

}  // namespace vg::machine
