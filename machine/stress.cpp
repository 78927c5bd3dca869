#include "machine/stress.h"

#include <fmt/format.h>

#include <charconv>
#include <string>
#include <vector>

#include "machine/config.h"

namespace vg::machine {

namespace {

Result<u64> number(std::string_view mode, std::string_view text, u64 low, u64 high) {
    u64 value = 0;
    const char* const end = text.data() + text.size();
    const auto [next, status] = std::from_chars(text.data(), end, value);
    if (status == std::errc{} && next == end && value >= low && value <= high) return value;
    return fail(Error::Code::Usage, fmt::format("stress mode {0}: \"{1}\" is not a number from {2} to {3}; write for example \"{0}={2}\"",
                                                mode, text, low, high));
}

/// One mode: how it changes what is there. `text` is what stands behind its "=".
struct Mode {
    const char* name;
    bool takes_value;
    Result<void> (*apply)(Stress& stress, std::string_view name, std::string_view text);
};

/// Puts a number in its place.
template <class T>
Result<void> put(T& place, std::string_view name, std::string_view text, u64 low, u64 high) {
    const auto value = number(name, text, low, high);
    if (!value) return Unexpected{value.error()};
    place = static_cast<T>(*value);
    return {};
}

/// When code is translated again: never, or after few samples and runs, which a seed chooses.
Result<void> tiers(Stress& s, std::string_view name, std::string_view text) {
    if (text == "off") {
        s.translator.sample_every = 0;
        return {};
    }
    constexpr std::string_view kRandom = "random:";
    if (text.substr(0, kRandom.size()) != kRandom)
        return fail(Error::Code::Usage, fmt::format("stress mode tiers: \"{}\" is neither \"off\" nor \"random:SEED\"", text));
    const auto seed = number(name, text.substr(kRandom.size()), 0, ~u64{0});
    if (!seed) return fail(Error::Code::Usage, "stress mode tiers: write for example \"tiers=random:1\"");
    u64 state = *seed * 2 + 1;
    const auto below = [&state](u32 bound) {
        state *= 0x9e3779b97f4a7c15;
        state ^= state >> 29;
        return static_cast<u32>(state % bound);
    };
    s.translator.sample_every = 256 + below(3000);
    s.translator.hot_samples = 1 + below(4);
    s.translator.profile_runs = 1 + below(200);
    return {};
}

constexpr Mode kModes[] = {
    {"tlb", true, [](Stress& s, std::string_view n, std::string_view t) { return put(s.tlb_entries, n, t, 1, mmu::kTlbEntries); }},
    {"slow", false,
     [](Stress& s, std::string_view, std::string_view) -> Result<void> {
         s.tlb_entries = 0;
         return {};
     }},
    {"budget", true, [](Stress& s, std::string_view n, std::string_view t) { return put(s.budget, n, t, 1, 1'000'000'000); }},
    {"cache", true,
     [](Stress& s, std::string_view, std::string_view t) -> Result<void> {
         const auto size = parse_byte_size(t);
         if (!size) return Unexpected{size.error()};
         constexpr u64 kLargest = u64{1} << 30;
         if (size->bytes < jit::Options::kLeastCodeBytes || size->bytes > kLargest)
             return fail(Error::Code::Usage, "stress mode cache: the code cache has from 64 KiB to 1 GiB; write for example "
                                             "\"cache=64 KiB\"");
         s.translator.code_bytes = static_cast<u32>(size->bytes);
         return {};
     }},
    {"flush", true, [](Stress& s, std::string_view n, std::string_view t) { return put(s.translator.flush_every, n, t, 1, 1'000'000'000); }},
    {"blocks", true, [](Stress& s, std::string_view n, std::string_view t) { return put(s.translator.block_limit, n, t, 1, 64); }},
    {"tiers", true, tiers},
    {"unlinked", false,
     [](Stress& s, std::string_view, std::string_view) -> Result<void> {
         s.translator.link_blocks = false;
         return {};
     }},
    {"helpers", false,
     [](Stress& s, std::string_view, std::string_view) -> Result<void> {
         s.translator.native = false;
         return {};
     }},
};

Result<void> apply(Stress& stress, std::string_view item) {
    const std::size_t equals = item.find('=');
    const std::string_view name = item.substr(0, equals);
    std::vector<std::string> known;
    for (const Mode& mode : kModes) {
        known.emplace_back(mode.name);
        if (name != mode.name) continue;
        if (mode.takes_value != (equals != std::string_view::npos))
            return fail(Error::Code::Usage, fmt::format("stress mode {0} is written \"{0}{1}\"", name, mode.takes_value ? "=NUMBER" : ""));
        return mode.apply(stress, name, mode.takes_value ? item.substr(equals + 1) : "");
    }
    const std::string near = nearest_name(name, known);
    return fail(Error::Code::Usage, fmt::format("unknown stress mode \"{}\"; {}", name,
                                                near.empty() ? fmt::format("known modes: {}", fmt::join(known, ", "))
                                                             : fmt::format("did you mean \"{}\"?", near)));
}

}  // namespace

Result<Stress> parse_stress(std::string_view text) {
    Stress stress;
    while (!text.empty()) {
        const std::size_t comma = text.find(',');
        std::string_view item = text.substr(0, comma);
        while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
        while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
        if (auto ok = apply(stress, item); !ok) return Unexpected{ok.error()};
        if (comma == std::string_view::npos) break;
        text.remove_prefix(comma + 1);
    }
    return stress;
}

}  // namespace vg::machine
