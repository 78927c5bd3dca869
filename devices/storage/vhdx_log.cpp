#include "devices/storage/vhdx_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "devices/storage/vhd_layout.h"

namespace vg::devices::vhdx {

namespace {

using vhd::damaged;

/// Changes that one log may make: more than any log of its size needs.
constexpr u64 kMaxChanges = 128 * 1024;
/// Bytes that one log may zero: a file system without holes has to write them.
constexpr u64 kMaxZeroed = u64{1} << 30;

u64 descriptor_pages(u64 count) { return (sizeof(LogEntryHeader) + count * sizeof(Descriptor) + kPage - 1) / kPage; }

/// Called with a page of data, or with no data and a size to be zeroed.
using Apply = std::function<Result<void>(u64 offset, std::span<const u8> data, u64 zero_bytes)>;

/// A log as another writer left it.
class LogReader {
  public:
    LogReader(BlockFile& file, const Header& header)
        : file_(file), header_(header), entries_(header.log_length / kPage), budget_(u64{8} * header.log_length) {}

    /// Finds the sequence with the newest end. "Log Replay".
    [[nodiscard]] Result<void> find_active();
    /// Its changes, oldest first.
    [[nodiscard]] Result<void> for_each_change(const Apply& apply);
    [[nodiscard]] u64 last_file_offset() const { return newest_.last_file_offset; }

  private:
    [[nodiscard]] Result<std::optional<LogEntryHeader>> entry_at(u64 position);
    [[nodiscard]] Result<std::optional<LogEntryHeader>> check_entry(u64 position);
    [[nodiscard]] Result<void> read_around(u64 position, std::span<u8> out);
    [[nodiscard]] Result<void> apply_entry(const LogEntryHeader& entry, u64 position, const Apply& apply);
    [[nodiscard]] u64 after(u64 position, const LogEntryHeader& entry) const {
        return (position + entry.entry_length) % header_.log_length;
    }

    BlockFile& file_;
    const Header& header_;
    struct Seen {
        bool checked = false, followed = false;
        std::optional<LogEntryHeader> entry;
    };
    std::vector<Seen> entries_;  // by page of the log
    u64 budget_;                 // bytes that checking may still read: a hostile log overlaps its entries
    LogEntryHeader newest_;
    u64 newest_at_ = 0;
    u64 zeroed_ = 0;  // by the present pass
};

Result<void> LogReader::read_around(u64 position, std::span<u8> out) {
    const std::size_t before_end = static_cast<std::size_t>(std::min<u64>(out.size(), header_.log_length - position));
    if (auto done = file_.read(header_.log_offset + position, out.first(before_end)); !done) return done;
    if (before_end == out.size()) return {};
    return file_.read(header_.log_offset, out.subspan(before_end));
}

Result<std::optional<LogEntryHeader>> LogReader::check_entry(u64 position) {
    std::array<u8, sizeof(LogEntryHeader)> head{};
    if (auto done = file_.read(header_.log_offset + position, head); !done) return Unexpected{done.error()};
    const auto entry = load<LogEntryHeader>(head);
    const std::optional<LogEntryHeader> none;
    if (entry.signature != kLogSignature || entry.log_guid != header_.log_guid || entry.sequence_number == 0 ||
        entry.entry_length == 0 || entry.entry_length % kPage != 0 || entry.entry_length > header_.log_length ||
        entry.tail % kPage != 0 || entry.tail >= header_.log_length ||
        descriptor_pages(entry.descriptor_count) * kPage > entry.entry_length)
        return none;
    if (entry.entry_length > budget_) {
        return damaged(file_, header_.log_offset + position, "entries of the log over each other", "one after another");
    }
    budget_ -= entry.entry_length;
    std::vector<u8> bytes(entry.entry_length);
    if (auto done = read_around(position, bytes); !done) return Unexpected{done.error()};
    if (checksum(bytes, offsetof(LogEntryHeader, checksum)) != entry.checksum) return none;
    u64 data_page = descriptor_pages(entry.descriptor_count);
    for (u32 i = 0; i < entry.descriptor_count; ++i) {
        const auto descriptor = load<Descriptor>(bytes, sizeof(LogEntryHeader) + i * sizeof(Descriptor));
        if (descriptor.sequence_number != entry.sequence_number || descriptor.file_offset % kPage != 0) return none;
        if (descriptor.signature == kZeroSignature) {
            if (descriptor.leading_or_length % kPage != 0) return none;
            continue;
        }
        if (descriptor.signature != kDescriptorSignature || (data_page + 1) * kPage > entry.entry_length) return none;
        const auto sector = load<DataSector>(bytes, static_cast<std::size_t>(data_page++ * kPage));
        if (sector.signature != kDataSignature ||
            (u64{sector.sequence_high} << 32 | sector.sequence_low) != entry.sequence_number)
            return none;
    }
    return std::optional<LogEntryHeader>(entry);
}

Result<std::optional<LogEntryHeader>> LogReader::entry_at(u64 position) {
    Seen& seen = entries_[static_cast<std::size_t>(position / kPage)];
    if (!seen.checked) {
        auto entry = check_entry(position);
        if (!entry) return entry;
        seen.entry = *entry;
        seen.checked = true;
    }
    return seen.entry;
}

Result<void> LogReader::find_active() {
    bool found = false;
    for (u64 start = 0; start < header_.log_length; start += kPage) {
        u64 position = start;
        u64 wanted = 0;  // sequence number; 0: any
        while (!entries_[static_cast<std::size_t>(position / kPage)].followed) {
            const auto entry = entry_at(position);
            if (!entry) return Unexpected{entry.error()};
            if (!*entry || (wanted != 0 && (*entry)->sequence_number != wanted)) break;
            entries_[static_cast<std::size_t>(position / kPage)].followed = true;
            if (!found || (*entry)->sequence_number > newest_.sequence_number) {
                newest_ = **entry;
                newest_at_ = position;
                found = true;
            }
            wanted = (*entry)->sequence_number + 1;
            position = after(position, **entry);
        }
    }
    if (!found) {
        return damaged(file_, header_.log_offset, "no valid entry in the log", "what the header says is to be replayed",
                       "restore the image from a backup; or accept the loss with: qemu-img check -r all FILE");
    }
    if (file_.size() < newest_.flushed_file_offset) {
        return damaged(file_, header_.log_offset + newest_at_, fmt::format("a file of {} bytes", file_.size()),
                       fmt::format("{}, its size when the log was written", newest_.flushed_file_offset));
    }
    if (newest_.last_file_offset > kMaxFileBytes) {
        return damaged(file_, header_.log_offset + newest_at_,
                       fmt::format("a log for a file of {} bytes", newest_.last_file_offset), "at most 96 TiB");
    }
    return {};
}

Result<void> LogReader::apply_entry(const LogEntryHeader& entry, u64 position, const Apply& apply) {
    std::vector<u8> bytes(entry.entry_length);
    if (auto done = read_around(position, bytes); !done) return done;
    u64 data_page = descriptor_pages(entry.descriptor_count);
    const u64 limit = std::max(file_.size(), newest_.last_file_offset);
    std::array<u8, kPage> page{};
    for (u32 i = 0; i < entry.descriptor_count; ++i) {
        const auto descriptor = load<Descriptor>(bytes, sizeof(LogEntryHeader) + i * sizeof(Descriptor));
        const bool zero = descriptor.signature == kZeroSignature;
        const u64 size = zero ? descriptor.leading_or_length : kPage;
        // The headers are no matter of the log: a log that rewrites them could name another log, and so on.
        if (descriptor.file_offset < kRegionOffsets[0] || !fits(descriptor.file_offset, size, limit)) {
            return damaged(file_, header_.log_offset + position,
                           fmt::format("a log entry for {} bytes at byte {}", size, descriptor.file_offset),
                           fmt::format("a place behind the headers, inside {} bytes", limit));
        }
        if (zero) {
            zeroed_ += size;
            if (zeroed_ > kMaxZeroed) {
                return damaged(file_, header_.log_offset + position, fmt::format("{} bytes to be zeroed", zeroed_),
                               fmt::format("at most {} by one log", kMaxZeroed));
            }
            if (auto done = apply(descriptor.file_offset, {}, size); !done) return done;
            continue;
        }
        const auto sector = load<DataSector>(bytes, static_cast<std::size_t>(data_page++ * kPage));
        store(page, 0, descriptor.leading_or_length);
        store(page, 8, sector.data);
        store(page, kPage - 4, descriptor.trailing);
        if (auto done = apply(descriptor.file_offset, page, 0); !done) return done;
    }
    return {};
}

Result<void> LogReader::for_each_change(const Apply& apply) {
    u64 position = newest_.tail;
    u64 wanted = 0, changes = 0;
    zeroed_ = 0;
    for (std::size_t steps = 0; steps < entries_.size(); ++steps) {
        const auto entry = entry_at(position);
        if (!entry) return Unexpected{entry.error()};
        if (!*entry || (wanted != 0 && (*entry)->sequence_number != wanted)) break;
        changes += (*entry)->descriptor_count;
        if (changes > kMaxChanges) break;
        if (auto done = apply_entry(**entry, position, apply); !done) return done;
        if (position == newest_at_) return {};
        wanted = (*entry)->sequence_number + 1;
        position = after(position, **entry);
    }
    return damaged(file_, header_.log_offset + position, "a gap in the log", "entries from its tail to its newest one");
}

/// A read-only file seen through what its log holds.
class Replayed final : public BlockFile {
  public:
    explicit Replayed(std::unique_ptr<BlockFile> file) : file_(std::move(file)), size_(file_->size()) {}

    [[nodiscard]] const std::string& name() const override { return file_->name(); }
    [[nodiscard]] u64 size() const override { return size_; }
    [[nodiscard]] bool writable() const override { return false; }
    [[nodiscard]] s64 modified() const override { return file_->modified(); }
    [[nodiscard]] Result<void> read(u64 offset, std::span<u8> out) override {
        if (!fits(offset, out.size(), size_)) return file_->read(offset, out);  // its error
        const u64 below = std::min<u64>(out.size(), file_->size() - std::min(offset, file_->size()));
        if (auto done = file_->read(offset, out.first(static_cast<std::size_t>(below))); !done) return done;
        std::fill(out.begin() + static_cast<std::ptrdiff_t>(below), out.end(), u8{0});
        const u64 end = offset + out.size();
        auto change = changes_.upper_bound(offset);
        if (change != changes_.begin()) --change;
        for (; change != changes_.end() && change->first < end; ++change) {
            const u64 first = std::max(offset, change->first), last = std::min(end, change->second.end);
            if (first >= last) continue;
            const auto to =
                out.subspan(static_cast<std::size_t>(first - offset), static_cast<std::size_t>(last - first));
            const std::vector<u8>& data = change->second.data;
            if (data.empty()) {
                std::fill(to.begin(), to.end(), u8{0});
            } else {
                std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(first - change->first), to.size(), to.begin());
            }
        }
        return {};
    }
    [[nodiscard]] Result<void> write(u64 offset, std::span<const u8>) override { return refuse(offset); }
    [[nodiscard]] Result<void> zero(u64 offset, u64) override { return refuse(offset); }
    [[nodiscard]] Result<void> sync() override { return {}; }
    [[nodiscard]] Result<void> resize(u64 size) override { return refuse(size); }

    void grow(u64 size) { size_ = std::max(size_, size); }
    /// Later changes hide earlier ones. Only zeroed ranges are ever cut: data are single pages at multiples of a page.
    void change(u64 begin, u64 end, std::span<const u8> data) {
        if (begin == end) return;
        auto at = changes_.lower_bound(begin);
        if (at != changes_.begin() && std::prev(at)->second.end > begin) {
            const u64 old_end = std::prev(at)->second.end;
            std::prev(at)->second.end = begin;
            if (old_end > end) changes_.emplace(end, Change{old_end, {}});
        }
        while (at != changes_.end() && at->first < end) {
            const u64 old_end = at->second.end;
            at = changes_.erase(at);
            if (old_end > end) changes_.emplace(end, Change{old_end, {}});
        }
        changes_.insert_or_assign(begin, Change{end, {data.begin(), data.end()}});
    }

  private:
    struct Change {
        u64 end;
        std::vector<u8> data;  // empty: zeroes
    };
    [[nodiscard]] Result<void> refuse(u64 offset) const {
        return fail(Error::Code::Internal, fmt::format("{}: a write at byte {} of a read-only file", name(), offset));
    }

    std::unique_ptr<BlockFile> file_;
    u64 size_;
    std::map<u64, Change> changes_;  // by first byte; they do not overlap
};

}  // namespace

Result<std::unique_ptr<BlockFile>> replay_log(std::unique_ptr<BlockFile> file, const Header& header) {
    LogReader log(*file, header);
    if (auto found = log.find_active(); !found) return Unexpected{found.error()};
    if (file->writable()) {
        // A first pass that changes nothing: a log that turns out to be damaged half-way must not be applied.
        const auto nothing = [](u64, std::span<const u8>, u64) { return Result<void>{}; };
        if (auto done = log.for_each_change(nothing); !done) return Unexpected{done.error()};
        if (file->size() < log.last_file_offset()) {
            if (auto done = file->resize(log.last_file_offset()); !done) return Unexpected{done.error()};
        }
        auto done = log.for_each_change([&](u64 offset, std::span<const u8> data, u64 zero_bytes) {
            if (!data.empty()) return file->write(offset, data);
            return zero_bytes == 0 ? Result<void>{} : file->zero(offset, zero_bytes);
        });
        if (done) done = file->sync();
        if (!done) return Unexpected{done.error()};
        return file;
    }
    auto view = std::make_unique<Replayed>(std::move(file));
    view->grow(log.last_file_offset());
    const auto done = log.for_each_change([&](u64 offset, std::span<const u8> data, u64 zero_bytes) {
        view->change(offset, offset + (data.empty() ? zero_bytes : kPage), data);
        return Result<void>{};
    });
    if (!done) return Unexpected{done.error()};
    return std::unique_ptr<BlockFile>(std::move(view));
}

Result<void> LogWriter::start(const Guid& id) {
    id_ = id;
    next_sequence_ = 1;
    next_ = 0;
    return append({});
}

Result<void> LogWriter::append(std::span<const LogPage> pages) {
    VG_ASSERT(pages.size() <= kMaxPages);
    const u64 first_data = descriptor_pages(pages.size());
    const u64 size = (first_data + pages.size()) * kPage;
    std::vector<u8> bytes(static_cast<std::size_t>(size));
    LogEntryHeader header;
    header.entry_length = static_cast<u32>(size);
    header.tail = next_;
    header.sequence_number = next_sequence_;
    header.descriptor_count = static_cast<u32>(pages.size());
    header.log_guid = id_;
    header.flushed_file_offset = header.last_file_offset = file_.size();
    for (std::size_t i = 0; i < pages.size(); ++i) {
        const std::span<const u8> page = pages[i].bytes;
        const Descriptor descriptor{kDescriptorSignature, load<u32>(page, kPage - 4), load<u64>(page), pages[i].offset,
                                    next_sequence_};
        store(bytes, sizeof(LogEntryHeader) + i * sizeof(Descriptor), descriptor);
        DataSector sector;
        sector.sequence_high = static_cast<u32>(next_sequence_ >> 32);
        sector.sequence_low = static_cast<u32>(next_sequence_);
        sector.data = load<std::array<u8, 4084>>(page, 8);
        store(bytes, static_cast<std::size_t>((first_data + i) * kPage), sector);
    }
    store(bytes, 0, header);
    header.checksum = checksum(bytes, offsetof(LogEntryHeader, checksum));
    store(bytes, 0, header);
    const u64 before_end = std::min<u64>(size, length_ - next_);
    const std::span<const u8> all(bytes);
    if (auto done = file_.write(offset_ + next_, all.first(static_cast<std::size_t>(before_end))); !done) return done;
    if (before_end != size) {
        if (auto done = file_.write(offset_, all.subspan(static_cast<std::size_t>(before_end))); !done) return done;
    }
    next_ = static_cast<u32>((next_ + size) % length_);
    ++next_sequence_;
    return {};
}

}  // namespace vg::devices::vhdx
