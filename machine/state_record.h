// A field tree as bytes: recorded from a machine, loaded into another one, shown to people.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/state.h"

namespace vg::machine {

/// Records what it visits, in the form of snapshot_format::Item.
class StateRecorder : public StateVisitor {
  public:
    void bytes(std::string_view name, std::span<u8> data) override;
    void text(std::string_view name, std::string& field) override;
    void note(std::string_view name, std::string_view content) override;
    void enter(std::string_view name) override;
    void leave() override;
    [[nodiscard]] const std::vector<u8>& data() const { return out_; }

  protected:
    void number(std::string_view name, u64& value, unsigned size, Fmt format) override;

  private:
    void item(u8 kind, std::string_view name);
    void leb(u64 value);
    std::vector<u8> out_;
};

/// Reads items, whoever wrote them. After the first that cannot be it stays at the end.
class StateItems {
  public:
    struct Item {
        u8 kind = 0;  ///< snapshot_format::Item, or 0 at the end
        std::string_view name;
        u64 value = 0;
        unsigned size = 0;
        Fmt format = Fmt::Hex;
        std::span<const u8> content;
    };
    explicit StateItems(std::span<const u8> data) : data_(data) {}
    /// The next item; groups that are left must have been entered.
    [[nodiscard]] Item next();
    [[nodiscard]] bool damaged() const { return damaged_; }
    [[nodiscard]] std::size_t left() const { return data_.size(); }

  private:
    u64 leb();
    std::span<const u8> take(u64 size);
    std::span<const u8> data_;
    u32 depth_ = 0;
    bool damaged_ = false;
};

/// Assigns recorded values to the fields that it visits. Names, kinds and sizes must be those that were recorded, in
/// their order; after the first that is not, fields keep what they have.
class StateLoader final : public StateVisitor {
  public:
    explicit StateLoader(std::span<const u8> data) : items_(data) {}
    [[nodiscard]] bool loading() const override { return true; }
    void bytes(std::string_view name, std::span<u8> data) override;
    void text(std::string_view name, std::string& field) override;
    void enter(std::string_view name) override;
    void leave() override;
    /// Error (Damaged): the path of the first field that did not come as it was recorded, or that something was left
    /// over.
    [[nodiscard]] Result<void> finish();

  protected:
    void number(std::string_view name, u64& value, unsigned size, Fmt format) override;

  private:
    /// The next item, if it is what is asked for.
    bool expect(u8 kind, std::string_view name, StateItems::Item& item);
    void fail_at(std::string_view name, std::string_view why);
    StateItems items_;
    std::vector<std::string> path_;
    std::string error_;
};

/// Visits the recorded fields as if the machine were there. Error (Damaged).
[[nodiscard]] Result<void> visit_record(std::span<const u8> record, StateVisitor& v);
/// Where two records differ first: "path: value, other value". "": nowhere.
[[nodiscard]] std::string first_difference(std::span<const u8> record, std::span<const u8> other);

}  // namespace vg::machine
