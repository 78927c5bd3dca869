#include "machine/console_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace vg::machine {

namespace {

constexpr std::size_t kMaxLine = 4096, kPromptWindow = 256;

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Searches `line` from `from` on; `^` and `\b` know what stands before.
bool search(const std::string& line, std::size_t from, std::smatch& found, const std::regex& regex) {
    using namespace std::regex_constants;
    return std::regex_search(line.cbegin() + static_cast<std::ptrdiff_t>(from), line.cend(), found, regex,
                             from == 0 ? match_default : match_prev_avail);
}

}  // namespace

Result<SendRule> parse_send_rule(std::string_view text) {
    const std::size_t arrow = text.find("=>");
    const auto bad = [&](std::string_view why) {
        return fail(Error::Code::Usage,
                    fmt::format("\"{}\": {}; write for example \"login:=>root\\n\"", text, why));
    };
    if (arrow == std::string_view::npos) return bad("no \"=>\" between expression and text");
    SendRule rule{std::string(text.substr(0, arrow)), ""};
    const std::string_view raw = text.substr(arrow + 2);
    for (std::size_t i = 0; i < raw.size(); ++i) {
        if (raw[i] != '\\') {
            rule.text += raw[i];
            continue;
        }
        const char next = i + 1 < raw.size() ? raw[i + 1] : '\0';
        ++i;
        if (next == 'n') rule.text += '\n';
        else if (next == 'r') rule.text += '\r';
        else if (next == 't') rule.text += '\t';
        else if (next == '\\') rule.text += '\\';
        else if (next == 'x' && i + 2 < raw.size() && hex_digit(raw[i + 1]) >= 0 && hex_digit(raw[i + 2]) >= 0) {
            rule.text += static_cast<char>(hex_digit(raw[i + 1]) * 16 + hex_digit(raw[i + 2]));
            i += 2;
        } else {
            return bad("unknown escape; known are \\n \\r \\t \\\\ \\xHH");
        }
    }
    return rule;
}

Result<ConsoleScript::Pattern> ConsoleScript::compile(const std::string& source, std::string_view what) {
    try {
        return Pattern{source, std::regex(source, std::regex::ECMAScript | std::regex::optimize)};
    } catch (const std::regex_error& error) {
        return fail(Error::Code::Usage, fmt::format("{} \"{}\" is not a regular expression: {}", what, source, error.what()));
    }
}

Result<ConsoleScript> ConsoleScript::create(const std::vector<std::string>& expect, const std::vector<std::string>& fail_on,
                                            const std::vector<SendRule>& sends, const std::vector<std::string>& start) {
    ConsoleScript script;
    for (const std::string& source : start) {
        auto pattern = compile(source, "test.start");
        if (!pattern) return Unexpected{pattern.error()};
        script.start_.push_back(std::move(*pattern));
    }
    for (const std::string& source : expect) {
        auto pattern = compile(source, "--expect");
        if (!pattern) return Unexpected{pattern.error()};
        script.expect_.push_back(std::move(*pattern));
    }
    for (const std::string& source : fail_on) {
        auto pattern = compile(source, "--fail-on");
        if (!pattern) return Unexpected{pattern.error()};
        script.fail_on_.push_back(std::move(*pattern));
    }
    for (const SendRule& rule : sends) {
        auto pattern = compile(rule.after, "--send");
        if (!pattern) return Unexpected{pattern.error()};
        script.sends_.push_back({std::move(*pattern), rule.text});
    }
    return script;
}

void ConsoleScript::match(std::size_t from, const Send& send) {
    std::smatch found;
    for (const Pattern& pattern : fail_on_) {
        if (failed_.empty() && search(line_, from, found, pattern.regex)) failed_ = pattern.source;
    }
    const auto end_of = [&] { return static_cast<std::size_t>(found[0].second - line_.cbegin()); };
    while (!started() && search(line_, std::max(from, expect_from_), found, start_[next_start_].regex)) {
        expect_from_ = end_of();
        ++next_start_;
    }
    while (started() && next_expect_ < expect_.size() && search(line_, std::max(from, expect_from_), found, expect_[next_expect_].regex)) {
        expect_from_ = end_of();
        ++next_expect_;
    }
    while (next_send_ < sends_.size() && search(line_, std::max(from, send_from_), found, sends_[next_send_].after.regex)) {
        send_from_ = end_of();
        send(sends_[next_send_++].text);
    }
}

// ECMA-48 §5.3, §5.4, §5.6: control sequences end at a final byte, control strings at ST (or BEL, as xterm has it). A
// string without end is over with its line.
bool ConsoleScript::in_escape(u8 byte) {
    constexpr u8 kEscape = 0x1b, kBell = 0x07;
    if (byte == kEscape) {
        escape_ = Escape::Started;
        return true;
    }
    switch (escape_) {
        case Escape::None: return false;
        case Escape::Started:
            if (byte == '[') escape_ = Escape::Csi;
            else if (byte == ']' || byte == 'P' || byte == 'X' || byte == '^' || byte == '_') escape_ = Escape::String;
            else if (byte < 0x20 || byte > 0x2f) escape_ = Escape::None;  // intermediate bytes go on
            return true;
        case Escape::Csi:
            if (byte >= 0x40 && byte <= 0x7e) escape_ = Escape::None;
            return true;
        case Escape::String:
            if (byte == kBell || byte == '\n') escape_ = Escape::None;
            return byte != '\n';
    }
    return false;
}

void ConsoleScript::feed(u8 byte, const Send& send) {
    if (start_.empty() && expect_.empty() && fail_on_.empty() && sends_.empty()) return;
    if (in_escape(byte)) return;
    if (byte == '\n') {
        match(0, send);
        line_.clear();
        expect_from_ = send_from_ = 0;
        return;
    }
    if (byte == '\r' || line_.size() == kMaxLine) return;
    line_ += static_cast<char>(byte);
    // Prompts end without a newline: look after the characters that end them.
    if (byte == ' ' || byte == ':' || byte == '#' || byte == '$' || byte == '>') {
        match(line_.size() - std::min(line_.size(), kPromptWindow), send);
    }
}

}  // namespace vg::machine
