// The storage core and its SCSI disks: rows D-30..D-44.
#include <catch2/catch.hpp>

#include <memory>

#include "tests/support/storage_guest.h"

using namespace vg;
using namespace vg::hv::vsp;
using vg::hv::storvsc::DataDirection;
using vg::hv::storvsc::Operation;
using vg::hv::storvsc::Packet;
using vg::test::bytes_of;
using vg::test::cdb;
using vg::test::MemoryBackend;
using vg::test::MemoryData;
using vg::test::MemoryHost;
using vg::test::srb_packet;

namespace {

constexpr u64 kSectors = 2048;

struct Bed {
    explicit Bed(u16 sub_channels = 4)
        : core(std::make_unique<Storage>(host, sub_channels)),
          disk(backend, {}, core->scratch()),
          second(read_only, identity(), core->scratch()) {
        CHECK(core->attach(0, 0, 0, disk));
        CHECK(core->attach(0, 0, 5, second));
        for (std::size_t i = 0; i < backend.bytes.size(); ++i) backend.bytes[i] = static_cast<u8>(i * 7 + i / 512);
    }
    static DiskIdentity identity() {
        DiskIdentity id;
        for (u8 i = 0; i < 16; ++i) id.id[i] = static_cast<u8>(0xa0 + i);
        return id;
    }
    StoragePacket request(const Packet& packet, GuestData* data = nullptr) {
        StoragePacket out;
        out.channel = 1;
        out.transaction_id = next_id++;
        out.payload = bytes_of(packet);
        out.data = data;
        return out;
    }
    /// An operation that is answered at once.
    Packet control(Operation operation, u16 value = 0) {
        Packet packet{};
        packet.operation = static_cast<u32>(operation);
        packet.flags = 1;
        packet.version.version = value;
        core->on_packet(request(packet));
        REQUIRE_FALSE(host.completions.empty());
        CHECK(host.completions.back().transaction_id == next_id - 1);
        CHECK(host.completions.back().packet.operation == 1);  // D-31
        return host.completions.back().packet;
    }
    Bed& ready() {
        control(Operation::BeginInit);
        control(Operation::QueryProtocolVersion, 0x0602);
        control(Operation::QueryProperties);
        CHECK(control(Operation::EndInit).status == 0);
        return *this;
    }
    /// Executes a command and returns its reply.
    Packet run(const Packet& packet, GuestData* data = nullptr) {
        core->on_packet(request(packet, data));
        REQUIRE(host.scheduled.size() == 1);
        const std::size_t before = host.completions.size();
        core->finish(host.scheduled.front().first);
        host.scheduled.pop_front();
        REQUIRE(host.completions.size() == before + 1);
        CHECK(host.completions.back().transaction_id == next_id - 1);
        CHECK(host.completions.back().packet.operation == 1);
        CHECK(host.completions.back().packet.status == 0);
        return host.completions.back().packet;
    }
    struct In {
        Packet reply;
        std::vector<u8> data;
    };
    In read_command(const std::array<u8, 16>& command, u32 length, u8 lun = 0, u8 target = 0, u8 path = 0) {
        MemoryData data(length);
        In in;
        in.reply =
            run(srb_packet(command, DataDirection::Read, length, lun, target, path), length != 0 ? &data : nullptr);
        in.data = data.bytes;
        return in;
    }
    Packet write_command(const std::array<u8, 16>& command, std::vector<u8> bytes, u8 lun = 0) {
        MemoryData data(0);
        data.bytes = std::move(bytes);
        const u32 length = static_cast<u32>(data.bytes.size());
        return run(srb_packet(command, DataDirection::Write, length, lun), &data);
    }
    Packet plain(const std::array<u8, 16>& command, u8 lun = 0) {
        return run(srb_packet(command, DataDirection::None, 0, lun));
    }

    MemoryHost host;
    MemoryBackend backend{kSectors};
    MemoryBackend read_only{64, true};
    std::unique_ptr<Storage> core;
    ScsiDisk disk, second;
    u64 next_id = 1;
};

bool good(const Packet& packet, u32 moved) {
    return packet.srb.srb_status == 1 && packet.srb.scsi_status == 0 && packet.srb.transfer_length == moved;
}

/// D-39: CHECK CONDITION with fixed sense data.
bool checked(const Packet& packet, Sense sense) {
    const auto& srb = packet.srb;
    return srb.srb_status == 0x84 && srb.scsi_status == 2 && srb.sense_length == 18 && srb.sense[0] == 0x70 &&
           srb.sense[2] == sense.key && srb.sense[7] == 10 && srb.sense[12] == sense.asc && srb.sense[13] == sense.ascq;
}

std::vector<u8> hex(std::string_view text) {
    std::vector<u8> bytes;
    for (std::size_t i = 0; i + 1 < text.size();) {
        if (text[i] == ' ') {
            ++i;
            continue;
        }
        bytes.push_back(static_cast<u8>(std::stoul(std::string(text.substr(i, 2)), nullptr, 16)));
        i += 2;
    }
    return bytes;
}

}  // namespace

TEST_CASE("storage: Linux's initialisation sequence (D-35, D-36)", "[hv][storage]") {
    Bed bed;
    CHECK(bed.control(Operation::BeginInit).status == 0);
    CHECK(bed.control(Operation::QueryProtocolVersion, 0x0700).status == 0xC0000059);
    CHECK(bed.control(Operation::QueryProtocolVersion, 0x0602).status == 0);
    CHECK(bed.core->version() == 0x0602);
    const Packet properties = bed.control(Operation::QueryProperties);
    CHECK(properties.status == 0);
    CHECK(properties.properties.max_sub_channels == 4);
    CHECK(properties.properties.flags == 1);
    CHECK(properties.properties.max_transfer_bytes == 0x100000);
    CHECK(bed.control(Operation::EndInit).status == 0);
    CHECK(bed.core->state() == Storage::State::Ready);
    CHECK(bed.control(Operation::CreateSubChannels, 3).status == 0);
    CHECK(bed.host.sub_channels == std::vector<u16>{3});
    CHECK(bed.control(Operation::CreateSubChannels, 5).status != 0);  // D-42: more than the maximum
    CHECK(bed.host.sub_channels.size() == 1);
    CHECK_FALSE(bed.host.size_wrong);
}

TEST_CASE("storage: sub-channels may also be asked for before END_INITIALIZATION (D-35, D-42)", "[hv][storage]") {
    Bed bed;
    bed.control(Operation::BeginInit);
    bed.control(Operation::QueryProtocolVersion, 0x0602);
    CHECK(bed.control(Operation::CreateSubChannels, 2).status != 0);  // their number is not known yet
    bed.control(Operation::QueryProperties);
    CHECK(bed.control(Operation::CreateSubChannels, 2).status == 0);
    CHECK(bed.host.sub_channels == std::vector<u16>{2});
    CHECK(bed.control(Operation::EndInit).status == 0);
    CHECK(bed.core->state() == Storage::State::Ready);
}

TEST_CASE("storage: each known version is accepted (D-35)", "[hv][storage]") {
    for (const u16 version : {u16{0x0602}, u16{0x0600}, u16{0x0501}}) {
        Bed bed;
        bed.control(Operation::BeginInit);
        CHECK(bed.control(Operation::QueryProtocolVersion, version).status == 0);
        CHECK(bed.core->version() == version);
    }
}

TEST_CASE("storage: steps out of order, on a sub-channel, or unknown are refused, never unanswered (D-43)",
          "[hv][storage]") {
    const Operation steps[] = {Operation::BeginInit, Operation::QueryProtocolVersion, Operation::QueryProperties,
                               Operation::EndInit};
    for (std::size_t done = 0; done <= 4; ++done) {
        for (std::size_t next = 0; next < 4; ++next) {
            Bed bed;
            for (std::size_t i = 0; i < done; ++i) REQUIRE(bed.control(steps[i], 0x0602).status == 0);
            CHECK((bed.control(steps[next], 0x0602).status == 0) == (next == done));
        }
    }
    Bed bed;
    bed.ready();
    for (const u32 operation : {0u, 1u, 2u, 11u, 12u, 14u, 15u, 0xffffffffu})
        CHECK(bed.control(static_cast<Operation>(operation)).status != 0);
    Packet packet{};
    packet.operation = static_cast<u32>(Operation::QueryProperties);
    StoragePacket from = bed.request(packet);
    from.sub_channel = true;
    bed.core->on_packet(from);
    CHECK(bed.host.completions.back().packet.status != 0);
    Bed early;
    const Packet srb = srb_packet(cdb(0), DataDirection::None, 0);
    early.core->on_packet(early.request(srb));
    CHECK(early.host.completions.back().packet.status != 0);
    CHECK(early.host.scheduled.empty());
}

TEST_CASE("storage: a packet cut at every byte is answered with all 64 bytes (D-31)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const Packet packet = srb_packet(cdb(0), DataDirection::None, 0);
    for (std::size_t size = 0; size < sizeof packet; ++size) {
        StoragePacket from = bed.request(packet);
        from.payload = from.payload.first(size);
        const std::size_t before = bed.host.completions.size();
        bed.core->on_packet(from);
        REQUIRE(bed.host.completions.size() == before + 1);
        CHECK(bed.host.completions.back().packet.status != 0);
    }
    StoragePacket from = bed.request(packet);
    from.completion_requested = false;
    bed.core->on_packet(from);
    const std::size_t before = bed.host.completions.size();
    bed.core->finish(bed.host.scheduled.front().first);
    CHECK(bed.host.completions.size() == before);  // nobody asked
    CHECK(bed.core->in_flight() == 0);
}

TEST_CASE("scsi: INQUIRY and its vital product data, byte by byte (D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const auto standard = bed.read_command(cdb(0x12, 0, 0, 0, 36), 36);
    CHECK(good(standard.reply, 36));
    CHECK(standard.data ==
          hex("00 00 05 02 1f 00 00 02 4d 73 66 74 20 20 20 20 56 69 72 74 75 61 6c 20 44 69 73 6b 20 20 20 20 "
              "31 2e 30 20"));
    CHECK(good(bed.read_command(cdb(0x12, 0, 0, 0, 5), 36).reply, 5));     // allocation length rules
    CHECK(good(bed.read_command(cdb(0x12, 0, 0, 0, 255), 16).reply, 16));  // so does the buffer
    const auto page = [&](u8 code, u8 lun) { return bed.read_command(cdb(0x12, 1, code, 0, 255), 255, lun); };
    const auto exact = [](const Bed::In& in) {
        return std::vector<u8>(in.data.begin(), in.data.begin() + in.reply.srb.transfer_length);
    };
    CHECK(exact(page(0x00, 0)) == hex("00 00 00 06 00 80 83 b0 b1 b2"));
    CHECK(exact(page(0x80, 5)) ==
          hex("00 80 00 20 61 30 61 31 61 32 61 33 61 34 61 35 61 36 61 37 61 38 61 39 61 61 61 62 61 63 61 "
              "64 61 65 61 66"));
    CHECK(exact(page(0x83, 5)) ==
          hex("00 83 00 40 02 01 00 28 4d 73 66 74 20 20 20 20 61 30 61 31 61 32 61 33 61 34 61 35 61 36 61 37 61 38 "
              "61 39 61 61 61 "
              "62 61 63 61 64 61 65 61 66 01 03 00 10 60 02 24 80 a0 a1 a2 a3 a4 a5 aa ab ac ad ae af"));
    const auto limits = page(0xb0, 0);
    CHECK(exact(limits).size() == 64);
    CHECK(std::vector<u8>(limits.data.begin(), limits.data.begin() + 44) ==
          hex("00 b0 00 3c 01 00 00 08 00 00 08 00 00 00 08 00 00 00 00 00 00 80 00 00 00 00 01 00 00 00 00 08 80 00 "
              "00 00 "
              "00 00 00 00 00 00 20 00"));
    CHECK(exact(page(0xb1, 0)).size() == 64);
    CHECK(page(0xb1, 0).data[5] == 1);  // does not rotate
    CHECK(exact(page(0xb2, 0)) == hex("00 b2 00 04 00 80 02 00"));
    CHECK(exact(page(0xb2, 5)) == hex("00 b2 00 04 00 00 00 00"));  // read-only: nothing to unmap
    CHECK(checked(page(0x81, 0).reply, kInvalidField));
    CHECK(checked(bed.read_command(cdb(0x12, 0, 0x80, 0, 36), 36).reply, kInvalidField));
}

TEST_CASE("scsi: mode pages, block descriptor and control bits (D-40, D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const auto six = [&](u8 byte1, u8 page, u8 lun = 0) {
        return bed.read_command(cdb(0x1a, byte1, page, 0, 255), 255, lun);
    };
    const auto exact = [](const Bed::In& in) {
        return std::vector<u8>(in.data.begin(), in.data.begin() + in.reply.srb.transfer_length);
    };
    const auto caching = hex("08 12 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
    const auto control = hex("0a 0a 00 10 00 00 00 00 00 00 00 00");
    const auto join = [](std::vector<u8> a, const std::vector<u8>& b) {
        a.insert(a.end(), b.begin(), b.end());
        return a;
    };
    CHECK(exact(six(8, 0x08)) == join(hex("17 00 10 00"), caching));
    CHECK(exact(six(0, 0x08)) == join(hex("1f 00 10 08 00 00 08 00 00 00 02 00"), caching));
    CHECK(exact(six(8, 0x0a)) == join(hex("0f 00 10 00"), control));
    CHECK(exact(six(8, 0x3f)) == join(join(hex("23 00 10 00"), caching), control));
    CHECK(exact(six(8, 0x48))[6] == 0);      // nothing is changeable
    CHECK(six(8, 0x3f, 5).data[2] == 0x90);  // write-protected
    CHECK(checked(six(8, 0xc8).reply, kSavingNotSupported));
    CHECK(checked(six(8, 0x01).reply, kInvalidField));
    CHECK(checked(bed.read_command(cdb(0x1a, 8, 0x08, 1, 255), 255).reply, kInvalidField));
    const auto ten = bed.read_command(cdb(0x5a, 8, 0x08, 0, 0, 0, 0, 0, 255), 255);
    CHECK(exact(ten) == join(hex("00 1a 00 10 00 00 00 00"), caching));
    CHECK(good(bed.read_command(cdb(0x1a, 8, 0x3f, 0, 4), 255).reply, 4));
}

TEST_CASE("scsi: capacity of small and very large disks (D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    CHECK(bed.read_command(cdb(0x25), 8).data == hex("00 00 07 ff 00 00 02 00"));
    const auto sixteen = bed.read_command(cdb(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 32);
    CHECK(good(sixteen.reply, 32));
    CHECK(sixteen.data ==
          hex("00 00 00 00 00 00 07 ff 00 00 02 00 00 03 80 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"));
    CHECK(checked(bed.read_command(cdb(0x9e, 0x11), 32).reply, kInvalidField));
    bed.backend.pretended_size = u64{3} << 41;
    CHECK(bed.read_command(cdb(0x25), 8).data == hex("ff ff ff ff 00 00 02 00"));
    CHECK(bed.read_command(cdb(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12), 12).data ==
          hex("00 00 00 02 ff ff ff ff 00 00 02 00"));
}

TEST_CASE("scsi: reads and writes of every width move the right sectors (D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const auto sectors = [&](u64 lba, u64 count) {
        const auto from = bed.backend.bytes.begin() + static_cast<std::ptrdiff_t>(lba * 512);
        return std::vector<u8>(from, from + static_cast<std::ptrdiff_t>(count * 512));
    };
    const std::array<u8, 16> reads[] = {cdb(0x08, 0, 0, 5, 3), cdb(0x28, 0, 0, 0, 0, 5, 0, 0, 3),
                                        cdb(0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 3),
                                        cdb(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3)};
    for (const auto& command : reads) {
        const auto in = bed.read_command(command, 3 * 512);
        CHECK(good(in.reply, 3 * 512));
        CHECK(in.data == sectors(5, 3));
    }
    CHECK(good(bed.read_command(cdb(0x08, 0, 0, 0, 0), 256 * 512).reply, 256 * 512));         // READ(6): 0 means 256
    CHECK(good(bed.read_command(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 0), 4096).reply, 0));          // READ(10): 0 means none
    const auto large = bed.read_command(cdb(0x28, 0, 0, 0, 0, 1, 0, 0x02, 0x00), 512 * 512);  // more than one chunk
    CHECK(large.data == sectors(1, 512));
    CHECK(good(bed.read_command(cdb(0x28, 0, 0, 0, 0, 1, 0, 0, 1), 4096).reply, 512));  // buffer longer than asked

    const std::array<u8, 16> writes[] = {cdb(0x0a, 0, 0, 9, 2), cdb(0x2a, 0, 0, 0, 0, 9, 0, 0, 2),
                                         cdb(0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 2),
                                         cdb(0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2)};
    u8 value = 1;
    for (const auto& command : writes) {
        const std::vector<u8> content(1024, value++);
        CHECK(good(bed.write_command(command, content), 1024));
        CHECK(sectors(9, 2) == content);
    }
    CHECK(bed.backend.flushes == 0);
    CHECK(good(bed.write_command(cdb(0x2a, 0x08, 0, 0, 0, 9, 0, 0, 2), std::vector<u8>(1024)), 1024));
    CHECK(bed.backend.flushes == 1);  // FUA
    CHECK(bed.disk.stats().bytes_written == 5 * 1024);
}

TEST_CASE("scsi: ranges, protection, medium and buffers are checked before anything moves", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const auto before = bed.backend.bytes;
    CHECK(good(bed.read_command(cdb(0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 1), 512).reply, 512));  // the last sector
    CHECK(checked(bed.read_command(cdb(0x28, 0, 0, 0, 0x08, 0x00, 0, 0, 1), 512).reply, kLbaOutOfRange));
    CHECK(checked(bed.read_command(cdb(0x28, 0, 0, 0, 0x07, 0xff, 0, 0, 2), 1024).reply, kLbaOutOfRange));
    CHECK(checked(bed.read_command(cdb(0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255), 512).reply,
                  kLbaOutOfRange));
    CHECK(checked(bed.write_command(cdb(0x2a, 0, 0, 0, 0x08, 0, 0, 0, 1), std::vector<u8>(512)), kLbaOutOfRange));
    CHECK(checked(bed.write_command(cdb(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), std::vector<u8>(512), 5), kWriteProtected));
    CHECK(checked(bed.read_command(cdb(0x28, 0x20, 0, 0, 0, 0, 0, 0, 1), 512).reply, kInvalidField));
    // D-39: the command asks for more than the buffer holds, or the direction is wrong.
    CHECK(bed.read_command(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 2), 512).reply.srb.srb_status == 0x12);
    CHECK(bed.write_command(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 1), std::vector<u8>(512)).srb.srb_status == 0x12);
    CHECK(bed.read_command(cdb(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), 512).reply.srb.srb_status == 0x12);
    CHECK(bed.plain(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 1)).srb.srb_status == 0x12);
    MemoryData gone(512);
    gone.missing = true;
    CHECK(bed.run(srb_packet(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 1), DataDirection::Read, 512), &gone).srb.srb_status ==
          0x06);
    CHECK(bed.run(srb_packet(cdb(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), DataDirection::Write, 512), &gone).srb.srb_status ==
          0x06);
    CHECK(bed.backend.bytes == before);
    bed.backend.failing = true;
    CHECK(checked(bed.read_command(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512).reply, kReadError));
    CHECK(checked(bed.write_command(cdb(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), std::vector<u8>(512)), kWriteError));
    CHECK(checked(bed.plain(cdb(0x35)), kWriteError));
    CHECK_FALSE(bed.backend.left);
}

TEST_CASE("scsi: commands without data, and unknown ones (D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    for (const int code : {0x00, 0x1b, 0x1e, 0x2f, 0x8f}) CHECK(good(bed.plain(cdb(code)), 0));
    CHECK(good(bed.plain(cdb(0x35)), 0));
    CHECK(good(bed.plain(cdb(0x91)), 0));
    CHECK(bed.backend.flushes == 2);
    CHECK(checked(bed.plain(cdb(0x2f, 0x02)), kInvalidField));  // VERIFY with data
    CHECK(checked(bed.plain(cdb(0x2f, 0, 0, 0, 8, 0, 0, 0, 1)), kLbaOutOfRange));
    CHECK(bed.read_command(cdb(0x03, 0, 0, 0, 18), 18).data ==
          hex("70 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 00 00 00"));
    CHECK(bed.read_command(cdb(0x03, 1, 0, 0, 18), 8).data == hex("72 00 00 00 00 00 00 00"));
    for (const int code : {0x04, 0x15, 0x55, 0xa3, 0x7f, 0xff}) CHECK(checked(bed.plain(cdb(code)), kInvalidOpcode));
    CHECK(bed.core->commands()[0x00] == 1);
    CHECK(bed.core->commands()[0xff] == 1);
    // The guest's sense buffer may be shorter, or absent.
    Packet packet = srb_packet(cdb(0xff), DataDirection::None, 0);
    packet.srb.sense_length = 4;
    CHECK(bed.run(packet).srb.sense_length == 4);
    packet.srb.sense_length = 0;
    CHECK(bed.run(packet).srb.srb_status == 0x04);
}

TEST_CASE("scsi: UNMAP checks all descriptors before the first takes effect (D-44)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const auto list = [](std::vector<std::pair<u64, u32>> descriptors) {
        std::vector<u8> bytes(8 + 16 * descriptors.size());
        bytes[1] = static_cast<u8>(bytes.size() - 2);
        bytes[0] = static_cast<u8>((bytes.size() - 2) >> 8);
        bytes[3] = static_cast<u8>(16 * descriptors.size());
        bytes[2] = static_cast<u8>(16 * descriptors.size() >> 8);
        for (std::size_t i = 0; i < descriptors.size(); ++i) {
            for (u32 b = 0; b < 8; ++b) bytes[8 + 16 * i + b] = static_cast<u8>(descriptors[i].first >> (56 - 8 * b));
            for (u32 b = 0; b < 4; ++b) bytes[16 + 16 * i + b] = static_cast<u8>(descriptors[i].second >> (24 - 8 * b));
        }
        return bytes;
    };
    const auto unmap = [&](const std::vector<u8>& bytes, u8 lun = 0) {
        return bed.write_command(cdb(0x42, 0, 0, 0, 0, 0, 0, bytes.size() >> 8, bytes.size()), bytes, lun);
    };
    CHECK(good(unmap(list({{8, 16}, {100, 0}, {200, 1}})), 8 + 48));
    CHECK(bed.backend.discards == std::vector<std::pair<u64, u64>>{{8 * 512, 16 * 512}, {200 * 512, 512}});
    bed.backend.discards.clear();
    CHECK(checked(unmap(list({{8, 16}, {kSectors - 1, 2}})), kLbaOutOfRange));
    CHECK(checked(unmap(list({{~u64{0}, 0xffff'ffff}})), kLbaOutOfRange));
    CHECK(checked(unmap(list(std::vector<std::pair<u64, u32>>(257, {0, 1}))), kInvalidParameterField));
    CHECK(good(unmap(list(std::vector<std::pair<u64, u32>>(256, {0, 0}))), 8 + 4096));
    CHECK(checked(unmap(list({{0, 1}}), 5), kWriteProtected));
    CHECK(checked(bed.plain(cdb(0x42, 1)), kInvalidField));  // ANCHOR
    CHECK(good(bed.plain(cdb(0x42)), 0));
    CHECK(checked(unmap(std::vector<u8>(7)), kParameterLength));
    auto lying = list({{0, 1}});
    lying[2] = 0xff;  // more descriptors than the list has room for
    CHECK(good(unmap(lying), 24));
    CHECK(bed.backend.discards == std::vector<std::pair<u64, u64>>{{0, 512}});
    CHECK(bed.write_command(cdb(0x42, 0, 0, 0, 0, 0, 0, 1, 0), std::vector<u8>(24)).srb.srb_status == 0x12);
}

TEST_CASE("scsi: WRITE SAME writes its block everywhere, within its limit", "[hv][storage]") {
    Bed bed;
    bed.ready();
    const std::vector<u8> block(512, 0x5a);
    CHECK(good(bed.write_command(cdb(0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0), block), 512));
    CHECK(std::all_of(bed.backend.bytes.begin() + 4 * 512, bed.backend.bytes.begin() + 260 * 512,
                      [](u8 b) { return b == 0x5a; }));
    CHECK(bed.backend.bytes[260 * 512] != 0x5a);
    CHECK(good(bed.plain(cdb(0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1)), 0));  // NDOB
    CHECK(bed.backend.bytes[4 * 512] == 0);
    CHECK(good(bed.write_command(cdb(0x41, 0, 0, 0, 0, 9, 0, 0, 1), block), 512));
    CHECK(checked(bed.write_command(cdb(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0), block), kInvalidField));
    CHECK(checked(bed.write_command(cdb(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x20, 1), block), kInvalidField));
    CHECK(checked(bed.write_command(cdb(0x93, 0, 0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 0, 2), block), kLbaOutOfRange));
    CHECK(checked(bed.write_command(cdb(0x93, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1), block, 5), kWriteProtected));
}

TEST_CASE("storage: absent units answer so that Linux sees no phantom disk (D-40)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    for (const auto [path, target, lun] : {std::array<u8, 3>{0, 0, 1}, {0, 1, 0}, {7, 1, 254}, {255, 255, 255}}) {
        const auto inquiry = bed.read_command(cdb(0x12, 0, 0, 0, 36), 36, lun, target, path);
        CHECK(good(inquiry.reply, 36));
        CHECK(inquiry.data[0] == 0x7f);
        CHECK(checked(bed.read_command(cdb(0x12, 1, 0x83, 0, 255), 255, lun, target, path).reply, kLunNotSupported));
        for (const int code : {0x00, 0x1a, 0x5a, 0x25, 0x28, 0x03}) {
            const auto other = bed.read_command(cdb(code, 0, 0x3f, 0, 255), 255, lun, target, path);
            CHECK(other.reply.srb.scsi_status == 2);
            CHECK(other.reply.srb.srb_status == 0x20);
            CHECK(other.reply.srb.transfer_length == 0);
            CHECK(std::all_of(other.data.begin(), other.data.end(), [](u8 b) { return b == 0; }));
        }
    }
    CHECK(bed.core->absent_commands() == 4 * 8);
}

TEST_CASE("storage: REPORT LUNS lists a target's units, also without unit 0 (D-40)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    CHECK(bed.core->attach(1, 1, 9, bed.disk));
    const auto report = [&](u8 path, u8 target, u8 lun, u32 length = 64) {
        const auto in = bed.read_command(cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, length), length, lun, target, path);
        return std::vector<u8>(in.data.begin(), in.data.begin() + in.reply.srb.transfer_length);
    };
    CHECK(report(0, 0, 0) == hex("00 00 00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 05 00 00 00 00 00 00"));
    CHECK(report(1, 1, 0) == hex("00 00 00 08 00 00 00 00 00 09 00 00 00 00 00 00"));
    CHECK(report(0, 1, 0) == hex("00 00 00 00 00 00 00 00"));
    CHECK(report(0, 0, 0, 16).size() == 16);
    CHECK(checked(bed.read_command(cdb(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15), 64).reply, kInvalidField));
    CHECK_FALSE(bed.core->attach(1, 1, 9, bed.disk));  // taken
    CHECK_FALSE(bed.core->attach(8, 0, 0, bed.disk));
    CHECK_FALSE(bed.core->attach(0, 64, 0, bed.disk));
}

TEST_CASE("storage: SRBs whose lengths lie are invalid requests (D-38, D-39)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    MemoryData data(512);
    const auto status = [&](Packet packet, bool malformed, GuestData* from) {
        StoragePacket request = bed.request(packet, from);
        request.data_malformed = malformed;
        bed.core->on_packet(request);
        bed.core->finish(bed.host.scheduled.front().first);
        bed.host.scheduled.pop_front();
        return bed.host.completions.back().packet.srb.srb_status;
    };
    const auto read = [](u32 length) {
        return srb_packet(cdb(0x28, 0, 0, 0, 0, 0, 0, 0, 1), DataDirection::Read, length);
    };
    CHECK(status(read(512), false, &data) == 1);
    CHECK(status(read(513), false, &data) == 6);
    CHECK(status(read(0xffff'ffff), false, &data) == 6);
    CHECK(status(read(512), false, nullptr) == 6);
    CHECK(status(read(512), true, nullptr) == 6);
    Packet packet = read(512);
    packet.srb.cdb_length = 17;
    CHECK(status(packet, false, &data) == 6);
    packet.srb.cdb_length = 0;
    CHECK(status(packet, false, &data) == 6);
    packet.srb.cdb_length = 6;  // what lies behind the length is not part of the command
    CHECK(status(packet, false, &data) == 1);
    packet = read(512);
    packet.srb.data_in = 7;
    CHECK(status(packet, false, &data) == 0x12);
}

TEST_CASE("storage: requests in flight are limited, ended by a reset and forgotten by a close (D-43)",
          "[hv][storage]") {
    Bed bed;
    bed.ready();
    const Packet packet = srb_packet(cdb(0), DataDirection::None, 0);
    while (bed.core->can_accept()) bed.core->on_packet(bed.request(packet));
    CHECK(bed.core->in_flight() == Storage::kMaxInFlight);
    CHECK(bed.host.scheduled.size() == Storage::kMaxInFlight);
    std::size_t before = bed.host.completions.size();
    bed.core->finish(bed.host.scheduled.front().first);
    CHECK(bed.core->can_accept());
    bed.control(Operation::ResetBus);
    CHECK(bed.host.completions.size() == before + Storage::kMaxInFlight + 1);  // every request, then the reset
    CHECK(bed.core->in_flight() == 0);
    before = bed.host.completions.size();
    for (const auto& [slot, bytes] : bed.host.scheduled) bed.core->finish(slot);  // late: nothing left to end
    CHECK(bed.host.completions.size() == before);
    bed.core->on_packet(bed.request(packet));
    StoragePacket other = bed.request(packet);
    other.channel = 2;
    bed.core->on_packet(other);
    bed.core->channel_closed(1);
    CHECK(bed.core->in_flight() == 1);
    bed.core->reset();
    CHECK(bed.core->in_flight() == 0);
    CHECK(bed.core->state() == Storage::State::AwaitBegin);
}

TEST_CASE("storage: random commands never leave the disk and are always answered (C8)", "[hv][storage]") {
    Bed bed;
    bed.ready();
    u64 state = 88172645463325252u;
    const auto random = [&] {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    };
    const u8 codes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f, 0x35,
                        0x41, 0x42, 0x5a, 0x88, 0x8a, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa};
    for (u32 i = 0; i < 20000; ++i) {
        std::array<u8, 16> command;
        for (u8& byte : command) byte = random() % 3 == 0 ? static_cast<u8>(random()) : u8{0};
        command[0] = codes[random() % std::size(codes)];
        const u32 size = static_cast<u32>(random() % 9000);
        MemoryData data(size);
        for (u8& byte : data.bytes) byte = static_cast<u8>(random());
        const u8 lun = random() % 8 == 0 ? u8{5} : u8{0};
        const Packet reply = bed.run(srb_packet(command, static_cast<DataDirection>(random() % 3), size, lun), &data);
        REQUIRE(reply.srb.transfer_length <= size);
        REQUIRE(reply.srb.srb_status != 0);
    }
    CHECK_FALSE(bed.backend.left);
    CHECK_FALSE(bed.read_only.left);
    CHECK(bed.read_only.bytes == std::vector<u8>(64 * 512));
}
