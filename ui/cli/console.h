// Where the guest's serial port ends: `--serial stdio|file:PATH|unix:PATH|none`.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/types.h"

namespace vg::cli {

class Console {
  public:
    /// Nothing is overwritten and the terminal is left alone until begin(). Error (Usage): no such place.
    static Result<std::unique_ptr<Console>> create(const std::string& where);
    virtual ~Console() = default;

    /// The machine is built and about to run.
    virtual void begin() {}
    virtual void put(u8 byte) = 0;
    /// Hands on what was put.
    virtual void flush() {}
    /// What was typed since the last call, waiting at most `timeout_ms` for the first byte.
    virtual std::string poll_input(int timeout_ms);
    /// Readable when poll_input has something to do; -1: nothing will come, or nobody can tell.
    [[nodiscard]] virtual int input_descriptor() const { return -1; }
    /// True if a person may type at any time.
    [[nodiscard]] virtual bool interactive() const { return false; }
    /// The person asked to leave.
    [[nodiscard]] virtual bool leave() const { return false; }
    /// Nothing will ever be typed.
    [[nodiscard]] virtual bool input_closed() const { return true; }

    /// Why no more output can be taken.
    struct Failure {
        bool reader_gone;
        std::string text;
    };
    [[nodiscard]] const std::optional<Failure>& failure() const { return failure_; }

  protected:
    std::optional<Failure> failure_;
};

}  // namespace vg::cli
