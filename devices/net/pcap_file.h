// Frames of one card in a file that Wireshark and tcpdump read.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "devices/net/frame.h"

struct pcap;
struct pcap_dumper;

namespace vg::devices {

/// A capture file with time stamps in nanoseconds of the guest's wall clock, written by libpcap.
class PcapFile final {
  public:
    /// Overwrites the file. Error (Usage): it cannot be written.
    /// @param start_unix_seconds  the guest's wall clock at virtual time 0
    static Result<std::unique_ptr<PcapFile>> create(const std::string& path, u64 start_unix_seconds);
    ~PcapFile();
    PcapFile(const PcapFile&) = delete;
    PcapFile& operator=(const PcapFile&) = delete;

    void write(VTime now, std::span<const u8> frame);
    /// Everything written is in the file. Error (Host): the disk is full, or broken.
    [[nodiscard]] Result<void> flush();

  private:
    PcapFile(std::string path, u64 start) : path_(std::move(path)), start_(start) {}

    std::string path_;
    u64 start_;
    pcap* handle_ = nullptr;
    pcap_dumper* dumper_ = nullptr;
};

}  // namespace vg::devices
