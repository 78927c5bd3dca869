// Runs of the VMBus server, its rings and the storage path on arbitrary bytes: shared by the fuzz targets and a short
// random test. Nothing an input does may assert, leave a disk, or grow without bound.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "base/events.h"
#include "hv/parent/storage_controller.h"
#include "tests/fuzz/input_bytes.h"
#include "tests/support/storage_guest.h"
#include "tests/support/vmbus_guest.h"

namespace vg::test {

inline void require(bool condition) {
    if (!condition) std::abort();
}

/// A guest with one SCSI controller of one disk, connected and open.
struct FuzzBed {
    static constexpr u32 kPages = 24;
    static constexpr u64 kDataPage = 22;  ///< this and the next: not those of a ring

    explicit FuzzBed(u16 sub_channels = 2)
        : world(kPages),
          controller("scsi", hv::Guid{}, events, log, sub_channels),
          server(world, log, limits()),
          guest(world, server) {
        require(controller.attach(0, 0, 0, std::make_unique<MemoryDevice>(16)).has_value());
        hv::vmbus::Offer offer;
        offer.type = hv::kScsiControllerClass;
        relid = server.offer(offer, controller);
        guest.contact(vmbus::kVersion5_3);
        guest.request_offers();
        guest.forget();
        rings.emplace(guest.open_rings(relid, 3));
        require(guest.open_status == 0);
    }
    static vmbus::ServerOptions limits() {
        vmbus::ServerOptions options;
        options.max_channels = 8;
        options.max_gpadls = 16;
        options.max_gpadl_pages = 64;
        options.max_total_pages = 256;
        options.max_unsent_messages = 8;
        return options;
    }
    void initialise() {
        u64 id = 1;
        for (const auto operation : {storvsc::Operation::BeginInit, storvsc::Operation::QueryProtocolVersion,
                                     storvsc::Operation::QueryProperties, storvsc::Operation::EndInit}) {
            storvsc::Packet packet{};
            packet.operation = static_cast<u32>(operation);
            packet.version.version = operation == storvsc::Operation::QueryProtocolVersion ? 0x0602 : 0;
            rings->out.write(vmbus::PacketType::InBand, 1, id++, bytes_of(packet));
            signal();
            require(rings->in.read().has_value());
        }
    }
    void signal() { server.on_signal(vmbus::event_connection(relid)); }
    void run_events() {
        clock.advance(1'000'000);
        events.run_due(clock.now());
    }
    void poke(InputBytes& input) {
        const u64 at = input.take<u16>() % (kPages * kPageSize / 4) * 4;
        world.set<u32>(at, input.take<u32>());
    }
    void check_limits() {
        require(server.gpadls().size() <= 16);
        require(server.gpadl_pages() <= 256 + 64);
        require(server.channels().size() <= 8);
        require(controller.core().in_flight() <= vsp::Storage::kMaxInFlight);
        if (world.messages.size() > 4096) {
            world.messages.clear();
            guest.forget();
        }
        if (world.signals.size() > 4096) world.signals.clear();
    }

    ManualClock clock;
    EventQueue events{clock};
    FakeWorld world;
    Log log;
    hv::parent::StorageController controller;
    vmbus::Server server;
    VmbusGuest guest;
    u16 relid = 0;
    std::optional<VmbusGuest::Pair> rings;
    std::array<u64, 6> ring_pages{16, 17, 18, 19, 20, 21};  ///< the first that VmbusGuest hands out
};

/// Channel messages of any content, signals, and what the host does at the same time.
inline void fuzz_messages(std::span<const u8> bytes) {
    InputBytes input(bytes);
    FuzzBed bed;
    while (!input.empty()) {
        switch (input.take<u8>() % 8) {
            case 0:
            case 1:
            case 2: {  // a message with a known number
                if (!bed.server.accepting()) break;
                u8 message[vmbus::kMaxMessageSize] = {};
                const u32 type = input.take<u8>() % 26;
                std::memcpy(message, &type, sizeof type);
                const auto body = input.span(input.take<u8>() % (sizeof message - 8 + 1));
                if (!body.empty()) std::memcpy(message + 8, body.data(), body.size());
                bed.server.on_message(std::span(message).first(8 + body.size()));
                break;
            }
            case 3:
                if (bed.server.accepting()) bed.server.on_message(input.span(input.take<u8>()));
                break;
            case 4:
                bed.server.on_signal(input.take<u8>() % 2 == 0 ? 0x2000u | (input.take<u8>() & 15) : input.take<u8>());
                break;
            case 5:
                bed.world.accept_messages = input.take<u8>() % 2 == 0;
                bed.server.flush();
                break;
            case 6:
                bed.poke(input);
                break;
            case 7:
                bed.run_events();
                if (input.take<u8>() % 16 == 0) bed.server.rescind(bed.relid);
                break;
        }
        bed.check_limits();
        // One accepted message is answered by at most one per channel and an end.
        require(!bed.world.accept_messages || !bed.server.has_unsent());
    }
}

/// Ring control pages and ring bytes of any content.
inline void fuzz_ring(std::span<const u8> bytes) {
    InputBytes input(bytes);
    FuzzBed bed;
    bed.initialise();
    while (!input.empty()) {
        switch (input.take<u8>() % 8) {
            case 0: {
                auto& ring = input.take<u8>() % 2 == 0 ? bed.rings->out : bed.rings->in;
                const u32 value = input.take<u8>() % 2 == 0 ? input.take<u16>() & ~7u : input.take<u32>();
                switch (input.take<u8>() % 5) {
                    case 0:
                        ring.set_write_index(value);
                        break;
                    case 1:
                        ring.set_read_index(value);
                        break;
                    case 2:
                        ring.set_mask(value);
                        break;
                    case 3:
                        ring.set_pending(value);
                        break;
                    case 4:
                        ring.set_features(value);
                        break;
                }
                break;
            }
            case 1:
            case 2: {
                const auto control = bed.rings->out.control();
                if (control.write_index >= bed.rings->out.size()) break;
                bed.rings->out.write_raw(input.span(input.take<u8>() & ~7u));
                break;
            }
            case 3:
            case 4:
                bed.signal();
                break;
            case 5:
                bed.run_events();
                break;
            case 6:  // reopen, so that a broken ring is not the end of the run
                bed.guest.post(vmbus::MessageType::CloseChannel, vmbus::CloseChannel{{}, bed.relid});
                bed.guest.post(vmbus::MessageType::GpadlTeardown,
                               vmbus::GpadlTeardown{{}, bed.relid, bed.rings->gpadl});
                bed.guest.forget();
                bed.rings->out.set_write_index(0);
                bed.rings->out.set_read_index(0);
                bed.rings->in.set_write_index(0);
                bed.rings->in.set_read_index(0);
                bed.guest.create_gpadl(bed.relid, bed.rings->gpadl, std::span(bed.ring_pages));
                bed.guest.open(bed.relid, bed.rings->gpadl, 3);
                break;
            case 7:
                bed.poke(input);
                break;
        }
        bed.check_limits();
    }
}

/// Storage packets with any SRB and any description of their data.
inline void fuzz_storage(std::span<const u8> bytes) {
    InputBytes input(bytes);
    FuzzBed bed;
    bed.initialise();
    u64 id = 10, answered = 0, sent = 0;
    const auto drain = [&] {
        while (const auto packet = bed.rings->in.read()) {
            require(packet->payload.size() == sizeof(storvsc::Packet));  // D-31
            require(packet->descriptor.type == static_cast<u16>(vmbus::PacketType::Completion));
            ++answered;
            if (packet->signal_host) bed.signal();
        }
    };
    while (!input.empty()) {
        storvsc::Packet packet{};
        const auto raw = input.span(input.take<u8>() % (sizeof packet + 1));
        if (!raw.empty()) std::memcpy(&packet, raw.data(), raw.size());
        const u8 how = input.take<u8>();
        if (how % 4 != 0) packet.operation = static_cast<u32>(storvsc::Operation::ExecuteSrb);
        const auto extension = input.span((input.take<u8>() % 16) * 8);
        std::vector<u8> header(extension.begin(), extension.end());
        const auto type = how % 2 == 0 ? vmbus::PacketType::InBand : vmbus::PacketType::GpaDirect;
        if (how % 8 == 3) {  // one good range
            const u64 words[] = {u64{1} << 32, packet.srb.transfer_length & 0x1fff, FuzzBed::kDataPage, FuzzBed::kDataPage + 1};
            header.assign(reinterpret_cast<const u8*>(words), reinterpret_cast<const u8*>(words + 4));
            packet.srb.transfer_length &= 0x1fff;
        }
        const auto payload = bytes_of(packet).first(how % 32 == 31 ? 40 : 64);
        if (!bed.rings->out.write(type, 1, id++, payload, header).room) break;
        ++sent;
        bed.signal();
        if (how % 3 == 0) bed.run_events();
        drain();
        bed.check_limits();
    }
    for (u32 i = 0; i < 4; ++i) {
        bed.signal();
        bed.run_events();
        drain();
    }
    require(answered == sent);  // V-04, D-43: nothing is left unanswered
}

}  // namespace vg::test
