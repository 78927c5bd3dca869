// The field visitor: an object lists its fields once; save, restore, inspect, diff and hash derive from it.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/types.h"

namespace vg {

/// How a number is shown to people. Has no effect on saved state.
enum class Fmt : u8 { Hex, Dec, Bin, Bool };

/// Visits fields by name. Names are also the names on disk and in the user interface, so they are stable.
class StateVisitor {
  public:
    virtual ~StateVisitor() = default;

    /// True if fields are being assigned (restore); the visited object re-derives caches afterwards.
    [[nodiscard]] virtual bool loading() const { return false; }

    template <class T>
        requires(std::is_integral_v<T> || std::is_enum_v<T>)
    void operator()(std::string_view name, T& field, Fmt format = std::is_same_v<T, bool> ? Fmt::Bool : Fmt::Hex) {
        if constexpr (std::is_same_v<T, bool>) {
            u64 value = field ? 1 : 0;
            number(name, value, 1, format);
            field = value != 0;
        } else {
            u64 value = static_cast<u64>(field);
            number(name, value, sizeof(T), format);
            field = static_cast<T>(value);
        }
    }
    template <class Tag>
    void operator()(std::string_view name, Address<Tag>& field) {
        if constexpr (std::is_same_v<Address<Tag>, Spa>)
            place(name, field);
        else
            number(name, field.value, 8, Fmt::Hex);
    }
    void operator()(std::string_view name, std::string& field) { text(name, field); }
    template <std::size_t N>
    void operator()(std::string_view name, std::array<u8, N>& field) {
        bytes(name, field);
    }
    template <class T, std::size_t N>
        requires(!std::is_same_v<T, u8> && (std::is_integral_v<T> || std::is_enum_v<T>))
    void operator()(std::string_view name, std::array<T, N>& field, Fmt format = Fmt::Hex) {
        enter(name);
        for (std::size_t i = 0; i < N; ++i) (*this)(std::to_string(i), field[i], format);
        leave();
    }
    /// A vector of numbers: its size is a field too (restoring refuses more than `limit` elements).
    template <class T>
        requires(std::is_integral_v<T>)
    void operator()(std::string_view name, std::vector<T>& field, std::size_t limit = 65536) {
        enter(name);
        u64 count = field.size();
        number("count", count, 4, Fmt::Dec);
        if (loading()) field.resize(count <= limit ? count : limit);
        for (std::size_t i = 0; i < field.size(); ++i) (*this)(std::to_string(i), field[i]);
        leave();
    }
    /// A block of raw bytes of fixed size.
    virtual void bytes(std::string_view name, std::span<u8> data) = 0;
    virtual void text(std::string_view name, std::string& field) = 0;
    /// Something for people that is not state (a file's path): shown, never saved or hashed.
    virtual void note(std::string_view name, std::string_view content) {
        (void)name;
        (void)content;
    }

    /// Opens and closes a named group.
    virtual void enter(std::string_view name) = 0;
    virtual void leave() = 0;

  protected:
    /// A place in the machine's own memory: a number, but for those who move objects to other places.
    virtual void place(std::string_view name, Spa& spa) { number(name, spa.value, 8, Fmt::Hex); }
    /// One number of `size` bytes (1, 2, 4, 8).
    virtual void number(std::string_view name, u64& value, unsigned size, Fmt format) = 0;
};

/// Opens a named group for the life of the scope.
class VisitScope {
  public:
    VisitScope(StateVisitor& v, std::string_view name) : v_(v) { v_.enter(name); }
    ~VisitScope() { v_.leave(); }
    VisitScope(const VisitScope&) = delete;
    VisitScope& operator=(const VisitScope&) = delete;

  private:
    StateVisitor& v_;
};

/// Hash of all visited names and values: equal state gives an equal hash, whatever made it. (XXH3, 64 bits.)
class StateHasher final : public StateVisitor {
  public:
    StateHasher();
    ~StateHasher() override;
    StateHasher(const StateHasher&) = delete;
    StateHasher& operator=(const StateHasher&) = delete;
    void bytes(std::string_view name, std::span<u8> data) override;
    void text(std::string_view name, std::string& field) override;
    void enter(std::string_view name) override;
    void leave() override;
    /// Mixes in raw memory that is not a named field.
    void memory(const void* data, std::size_t size);
    [[nodiscard]] u64 digest() const;

  protected:
    void number(std::string_view name, u64& value, unsigned size, Fmt format) override;

  private:
    void* state_;
};

/// Prints the tree as `path = value` lines, one per field: what `inspect` shows.
class StatePrinter final : public StateVisitor {
  public:
    void bytes(std::string_view name, std::span<u8> data) override;
    void text(std::string_view name, std::string& field) override;
    void note(std::string_view name, std::string_view content) override { line(name, content); }
    void enter(std::string_view name) override;
    void leave() override;
    [[nodiscard]] const std::string& result() const { return out_; }

  protected:
    void number(std::string_view name, u64& value, unsigned size, Fmt format) override;

  private:
    void line(std::string_view name, std::string_view value);
    std::vector<std::string> path_;
    std::string out_;
};

}  // namespace vg
