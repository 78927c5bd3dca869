// Watches a console's output: expectations in order, failure patterns, and answers to send.
#pragma once

#include <functional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace vg::machine {

/// `--send "AFTER-REGEX=>TEXT"`: TEXT may hold \n, \r, \t, \\ and \xHH.
struct SendRule {
    std::string after, text;
};

/// Matches line by line as text arrives; the last 256 characters of an unfinished line (a prompt) are matched too, behind
/// characters that end prompts. Escape sequences of terminals are removed before matching. Memory and time are bounded
/// whatever the guest prints: a line is cut at 4096 bytes.
class ConsoleScript {
  public:
    using Send = std::function<void(std::string_view)>;

    /// @param start  what must be seen, in order, before expectations are looked for
    /// Error (Usage): an expression is not a valid ECMAScript regular expression; says which and why.
    static Result<ConsoleScript> create(const std::vector<std::string>& expect, const std::vector<std::string>& fail_on,
                                        const std::vector<SendRule>& sends, const std::vector<std::string>& start = {});

    /// Feeds one byte of output. Sends go through `send`.
    void feed(u8 byte, const Send& send);

    [[nodiscard]] bool has_expectations() const { return !expect_.empty(); }
    /// Every `start` expression was seen.
    [[nodiscard]] bool started() const { return next_start_ == start_.size(); }
    [[nodiscard]] bool all_seen() const { return started() && next_expect_ == expect_.size(); }
    /// The failure expression that matched, or "".
    [[nodiscard]] const std::string& failed() const { return failed_; }
    /// The expression still waited for, or "".
    [[nodiscard]] std::string waiting_for() const {
        if (!started()) return start_[next_start_].source;
        return all_seen() ? "" : expect_[next_expect_].source;
    }

  private:
    struct Pattern {
        std::string source;
        std::regex regex;
    };
    struct Rule {
        Pattern after;
        std::string text;
    };
    static Result<Pattern> compile(const std::string& source, std::string_view what);
    /// Looks at the line from character `from` on.
    void match(std::size_t from, const Send& send);
    /// True if the byte belongs to an escape sequence.
    bool in_escape(u8 byte);

    std::vector<Pattern> start_, expect_, fail_on_;
    std::vector<Rule> sends_;
    std::size_t next_start_ = 0, next_expect_ = 0, next_send_ = 0;
    std::string line_, failed_;
    /// A line satisfies each of expect, send at most once per position: matching restarts behind the last match.
    std::size_t expect_from_ = 0, send_from_ = 0;
    enum class Escape : u8 { None, Started, Csi, String } escape_ = Escape::None;
};

/// Parses "AFTER=>TEXT". Error (Usage) if there is no "=>" or an escape is wrong; where it stood is for the caller to add.
[[nodiscard]] Result<SendRule> parse_send_rule(std::string_view text);

}  // namespace vg::machine
