// Layouts of a kernel's structures from its own type information (.BTF). Linux Documentation/bpf/btf.rst.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg::model {

/// Type information that was copied out of a guest. Nothing in it is trusted: what does not fit is not there.
class Btf {
  public:
    static constexpr std::size_t kMaxBytes = 64u << 20;
    static constexpr u32 kMaxTypes = 2'000'000;

    /// Nothing if the header or the list of types is not one of BTF version 1.
    [[nodiscard]] static std::optional<Btf> parse(std::vector<u8> bytes);

    /// Bytes from the start of `struct type` to a member, by a path of member names "arch.num_orcs"; members of unnamed
    /// structures and unions inside count as its own. Nothing: no such type or member, or a bit field.
    [[nodiscard]] std::optional<u64> offset(std::string_view type, std::string_view path) const;
    /// Size of `struct type`.
    [[nodiscard]] std::optional<u64> size(std::string_view type) const;
    /// Elements of an array that is a member of `struct type`.
    [[nodiscard]] std::optional<u64> elements(std::string_view type, std::string_view path) const;
    [[nodiscard]] u32 type_count() const { return static_cast<u32>(types_.size()); }

  private:
    struct Member {
        u64 offset = 0;
        u32 type = 0;
    };
    [[nodiscard]] u32 word(u64 at) const;
    [[nodiscard]] std::string_view string(u32 offset) const;
    [[nodiscard]] u32 find_struct(std::string_view name) const;
    [[nodiscard]] u32 resolve(u32 type) const;
    [[nodiscard]] std::optional<Member> member(u32 type, std::string_view name, unsigned depth, u32& budget) const;
    [[nodiscard]] std::optional<Member> follow(std::string_view type, std::string_view path) const;

    std::vector<u8> bytes_;
    std::vector<u32> types_;  ///< where type i + 1 begins
    u64 strings_ = 0, strings_size_ = 0;
};

}  // namespace vg::model
