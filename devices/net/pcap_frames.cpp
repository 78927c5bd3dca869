#include "devices/net/pcap_frames.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <ctime>
#include <memory>

namespace vg::devices {

namespace {

constexpr u64 kMaxBytes = 64 << 20;

Unexpected<Error> bad(const std::string& path, const std::string& why) {
    return fail(Error::Code::Usage, fmt::format("\"{}\" {}", path, why));
}

std::string utc(s64 seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char text[32];
    return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

Result<std::vector<TimedFrame>> read_frames(const std::string& path, u64 start_unix_seconds) {
    char error[PCAP_ERRBUF_SIZE] = "";
    const std::unique_ptr<pcap_t, void (*)(pcap_t*)> file(
        pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, error), pcap_close);
    if (file == nullptr) return bad(path, fmt::format("cannot be read as a capture ({}); name a pcap file", error));
    if (pcap_datalink(file.get()) != DLT_EN10MB)
        return bad(path, "does not hold Ethernet frames; capture on an Ethernet interface");
    std::vector<TimedFrame> frames;
    u64 bytes = 0;
    pcap_pkthdr* header = nullptr;
    const u8* data = nullptr;
    int status = 0;
    while ((status = pcap_next_ex(file.get(), &header, &data)) == 1) {
        const s64 seconds = header->ts.tv_sec, start = static_cast<s64>(start_unix_seconds);
        if (seconds < start || seconds - start > 100LL * 365 * 86400) {
            return bad(path,
                       fmt::format("has a frame of {}, and the machine starts at {}; set machine.clock to when the "
                                   "capture began",
                                   utc(seconds), utc(start)));
        }
        if (header->caplen < header->len || header->caplen < kEthernetHeaderBytes || header->caplen > kMaxFrameBytes)
            continue;
        bytes += header->caplen;
        if (bytes > kMaxBytes) return bad(path, "holds more than 64 MiB; cut it with editcap");
        const auto nanoseconds = static_cast<u64>(header->ts.tv_usec) % kVTimeHz;  // by the precision asked for
        frames.push_back({static_cast<u64>(seconds - start) * kVTimeHz + nanoseconds, {data, data + header->caplen}});
    }
    if (status == PCAP_ERROR) return bad(path, fmt::format("is damaged ({}); make it again", pcap_geterr(file.get())));
    std::stable_sort(frames.begin(), frames.end(), [](const auto& a, const auto& b) { return a.when < b.when; });
    return frames;
}

}  // namespace vg::devices
