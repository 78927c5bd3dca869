#include "devices/net/pcap_file.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

#include <cstdio>

namespace vg::devices {

Result<std::unique_ptr<PcapFile>> PcapFile::create(const std::string& path, u64 start_unix_seconds) {
    std::unique_ptr<PcapFile> file(new PcapFile(path, start_unix_seconds));
    file->handle_ =
        pcap_open_dead_with_tstamp_precision(DLT_EN10MB, static_cast<int>(kMaxFrameBytes), PCAP_TSTAMP_PRECISION_NANO);
    if (file->handle_ == nullptr) return fail(Error::Code::Internal, "libpcap does not start");
    file->dumper_ = pcap_dump_open(file->handle_, path.c_str());
    if (file->dumper_ == nullptr) {
        return fail(Error::Code::Usage,
                    fmt::format("\"{}\" cannot be written ({}); name another file", path, pcap_geterr(file->handle_)));
    }
    return file;
}

PcapFile::~PcapFile() {
    if (dumper_ != nullptr) pcap_dump_close(dumper_);
    if (handle_ != nullptr) pcap_close(handle_);
}

void PcapFile::write(VTime now, std::span<const u8> frame) {
    pcap_pkthdr header{};
    header.ts.tv_sec = static_cast<time_t>(start_ + now / kVTimeHz);
    header.ts.tv_usec = static_cast<suseconds_t>(now % kVTimeHz);  // nanoseconds, by the precision of the handle
    header.caplen = header.len = static_cast<bpf_u_int32>(frame.size());
    pcap_dump(reinterpret_cast<u8*>(dumper_), &header, frame.data());
}

Result<void> PcapFile::flush() {
    if (pcap_dump_flush(dumper_) == 0 && std::ferror(pcap_dump_file(dumper_)) == 0) return {};
    return fail(Error::Code::Host, fmt::format("\"{}\" could not be written to its end", path_));
}

}  // namespace vg::devices
