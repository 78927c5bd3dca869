// The values of a request of the control protocol, checked while they are read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ui/model/json_text.h"

namespace vg::model {

/// Reads the keys of one object. The first mistake is kept: read everything, then ask `ok`.
class Arguments {
  public:
    /// @param object  an object; outlives this
    explicit Arguments(const Json& object) : object_(object) {}

    /// Every key must be one of these words, separated by spaces.
    void allow_only(std::string_view words);
    [[nodiscard]] const Json& whole() const { return object_; }
    [[nodiscard]] bool has(const char* key) const { return object_.contains(key); }

    /// An address or value: "0x..." or a number. Missing: a mistake.
    u64 number(const char* key);
    u64 number(const char* key, u64 otherwise) { return has(key) ? number(key) : otherwise; }
    std::optional<u64> optional_number(const char* key) {
        return has(key) ? std::optional<u64>(number(key)) : std::nullopt;
    }
    /// The same in 0..most.
    u64 count(const char* key, u64 otherwise, u64 most);
    std::string text(const char* key);
    std::string text(const char* key, std::string otherwise) { return has(key) ? text(key) : std::move(otherwise); }
    bool flag(const char* key, bool otherwise);
    /// An object or array under this key. Missing, or something else: a mistake, and the answer is an empty one.
    const Json& object(const char* key);
    const Json& array(const char* key);
    std::vector<u64> numbers(const char* key, std::size_t most);
    std::vector<std::string> texts(const char* key, std::size_t most);

    void mistake(std::string text) {
        if (mistake_.empty()) mistake_ = std::move(text);
    }
    [[nodiscard]] bool ok() const { return mistake_.empty(); }
    [[nodiscard]] Unexpected<Error> failure() const { return fail(Error::Code::Usage, mistake_); }

  private:
    [[nodiscard]] std::optional<u64> as_number(const Json& value) const;
    const Json& object_;
    std::string mistake_;
};

}  // namespace vg::model
