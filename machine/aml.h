// Writes ACPI Machine Language. ACPI 6.5 §20 "ACPI Machine Language (AML) Specification", §6.4 "Resource Data Types".
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace vg::machine {

/// Appends AML terms to a byte string. Blocks take a callback that writes their content; lengths are filled in.
class Aml {
  public:
    using Content = std::function<void(Aml&)>;

    /// `path` is up to four characters per segment, optionally with a leading backslash: "\\_SB_", "VMBS".
    void scope(std::string_view path, const Content& content);
    void device(std::string_view name, const Content& content);
    void name(std::string_view name, u64 value);
    void name(std::string_view name, std::string_view text);
    /// Name whose value is an EISA id such as "PNP0501".
    void name_eisa(std::string_view name, std::string_view id);
    void name_package(std::string_view name, const std::vector<u64>& values);
    /// Name whose value is a package; `content` writes its `count` elements.
    void name_package(std::string_view name, u32 count, const Content& content);
    /// Method without arguments and content.
    void empty_method(std::string_view name);
    /// Serialized method with 0..7 arguments.
    void method(std::string_view name, u32 arguments, const Content& content);

    // Statements, inside method(). Operands are terms written by their callbacks.
    void if_then(const Content& predicate, const Content& content);
    /// Right behind an if_then().
    void otherwise(const Content& content);
    void store(const Content& value, const Content& target);
    void give_back(const Content& value);
    void dword_field(const Content& buffer, u64 byte_index, std::string_view name);

    // Terms.
    void number(u64 value) { integer(value); }
    void named(std::string_view path) { name_string(path); }
    void argument(u32 index) { bytes_.push_back(static_cast<u8>(0x68 + index)); }
    void local(u32 index) { bytes_.push_back(static_cast<u8>(0x60 + index)); }
    void buffer(const std::vector<u8>& content);
    void package(u32 count, const Content& content);
    void equal(const Content& a, const Content& b);
    void not_equal(const Content& a, const Content& b);
    /// The result is also stored in `target`.
    void bit_and(const Content& a, const Content& b, const Content& target);
    void bit_or(const Content& a, const Content& b, const Content& target);
    /// _CRS: a buffer with resource descriptors, end tag added.
    void resources(const Content& content);

    // Resource descriptors, inside resources().
    void io(u16 base, u8 count);
    /// Extended interrupt: edge, active high, exclusive.
    void interrupt(u32 gsi);
    void qword_memory(u64 base, u64 size);
    void dword_memory(u32 base, u32 size);
    void fixed_memory(u32 base, u32 size);  ///< 32-bit, consumed
    void word_bus(u16 first, u16 count);
    void word_io(u16 base, u16 size);

    [[nodiscard]] const std::vector<u8>& bytes() const { return bytes_; }

  private:
    void integer(u64 value);
    void name_string(std::string_view path);
    void with_length(const Content& content);
    template <class T>
    void raw(T value) {
        for (unsigned i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<u8>(static_cast<u64>(value) >> (8 * i)));
    }
    std::vector<u8> bytes_;
};

}  // namespace vg::machine
