// The fields of one object as a flat record, played back into it or into another of its kind: fast, and exact about order.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/state.h"

namespace vg::test {

/// Records the values of all fields in order, then plays them back. Fields that come in another number or order than
/// they were saved in are a mistake of the object and assert.
class StateTape {
  public:
    template <class Object>
    void save(Object& object) {
        numbers_.clear();
        blocks_.clear();
        Recorder recorder(*this);
        object.fields(recorder);
    }
    template <class Object>
    void restore(Object& object) const {
        Player player(*this);
        object.fields(player);
        VG_ASSERT(player.at_end());
    }

  private:
    class Recorder final : public StateVisitor {
      public:
        explicit Recorder(StateTape& tape) : tape_(tape) {}
        void bytes(std::string_view, std::span<u8> data) override { tape_.blocks_.emplace_back(data.begin(), data.end()); }
        void text(std::string_view, std::string& field) override { tape_.blocks_.emplace_back(field.begin(), field.end()); }
        void enter(std::string_view) override {}
        void leave() override {}

      protected:
        void number(std::string_view, u64& value, unsigned, Fmt) override { tape_.numbers_.push_back(value); }

      private:
        StateTape& tape_;
    };
    class Player final : public StateVisitor {
      public:
        explicit Player(const StateTape& tape) : tape_(tape) {}
        [[nodiscard]] bool loading() const override { return true; }
        void bytes(std::string_view, std::span<u8> data) override {
            const std::vector<u8>& saved = block();
            VG_ASSERT(saved.size() == data.size());
            std::copy(saved.begin(), saved.end(), data.begin());
        }
        void text(std::string_view, std::string& field) override {
            const std::vector<u8>& saved = block();
            field.assign(saved.begin(), saved.end());
        }
        void enter(std::string_view) override {}
        void leave() override {}
        [[nodiscard]] bool at_end() const {
            return next_number_ == tape_.numbers_.size() && next_block_ == tape_.blocks_.size();
        }

      protected:
        void number(std::string_view, u64& value, unsigned, Fmt) override {
            VG_ASSERT(next_number_ < tape_.numbers_.size());
            value = tape_.numbers_[next_number_++];
        }

      private:
        const std::vector<u8>& block() {
            VG_ASSERT(next_block_ < tape_.blocks_.size());
            return tape_.blocks_[next_block_++];
        }
        const StateTape& tape_;
        std::size_t next_number_ = 0, next_block_ = 0;
    };

    std::vector<u64> numbers_;
    std::vector<std::vector<u8>> blocks_;
};

}  // namespace vg::test
