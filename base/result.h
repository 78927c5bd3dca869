// Result<T, E>: a value or an error, with the member names of std::expected (which g++ 12 lacks in C++20).
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace vg {

/// What went wrong on the host's side, for a person: one paragraph of where, what, why, what to do.
struct Error {
    /// Decides the exit code (cli.md §3).
    enum class Code {
        Usage,    ///< command line or configuration: exit 2
        Host,     ///< this host cannot do it: exit 3
        Damaged,  ///< image, snapshot or recording damaged: exit 10
        Internal  ///< our own mistake: exit 70
    };
    Code code = Code::Usage;
    std::string text;

    /// The same error with `where: ` in front.
    [[nodiscard]] Error in(const std::string& where) const { return {code, where + ": " + text}; }
};

template <class E>
struct Unexpected {
    E error;
};
template <class E>
Unexpected(E) -> Unexpected<E>;

/// A T or an E. Reading the wrong one is our mistake and asserts.
template <class T, class E = Error>
class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}                    // NOLINT
    Result(Unexpected<E> failure) : state_(std::in_place_index<1>, std::move(failure.error)) {}  // NOLINT

    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }
    T& value() & { VG_ASSERT(has_value()); return std::get<0>(state_); }
    const T& value() const& { VG_ASSERT(has_value()); return std::get<0>(state_); }
    T&& value() && { VG_ASSERT(has_value()); return std::get<0>(std::move(state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    E& error() { VG_ASSERT(!has_value()); return std::get<1>(state_); }
    const E& error() const { VG_ASSERT(!has_value()); return std::get<1>(state_); }

  private:
    std::variant<T, E> state_;
};

template <class E>
class [[nodiscard]] Result<void, E> {
  public:
    Result() = default;
    Result(Unexpected<E> failure) : error_(std::move(failure.error)), ok_(false) {}  // NOLINT

    [[nodiscard]] bool has_value() const { return ok_; }
    explicit operator bool() const { return ok_; }
    E& error() { VG_ASSERT(!ok_); return error_; }
    const E& error() const { VG_ASSERT(!ok_); return error_; }

  private:
    E error_{};
    bool ok_ = true;
};

/// `return fail(Error::Code::Usage, "...")`.
inline Unexpected<Error> fail(Error::Code code, std::string text) { return {Error{code, std::move(text)}}; }

}  // namespace vg
