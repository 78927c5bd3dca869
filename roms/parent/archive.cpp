#include "roms/parent/archive.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "roms/parent/spec/ustar.h"

namespace vg::parent {

namespace {

using hv::vsp::BlockBackend;
using Block = std::array<u8, ustar::kBlock>;

Unexpected<Error> damaged(u64 at, const std::string& what) {
    return fail(Error::Code::Damaged, "archive: header at byte " + std::to_string(at) + ": " + what);
}

/// Text up to a NUL or the field's end.
std::string text(const Block& block, ustar::Field field) {
    const auto* begin = reinterpret_cast<const char*>(block.data()) + field.offset;
    return {begin, std::find(begin, begin + field.size, '\0')};
}

/// Octal digits, behind spaces if any, up to a NUL, a space or the field's end.
std::optional<u64> number(const Block& block, ustar::Field field) {
    u64 value = 0;
    u32 digits = 0, i = 0;
    while (i < field.size && block[field.offset + i] == ' ') ++i;
    for (; i < field.size; ++i) {
        const u8 c = block[field.offset + i];
        if (c == '\0' || c == ' ') break;
        if (c < '0' || c > '7') return std::nullopt;
        value = value * 8 + (c - u64{'0'});
        ++digits;
    }
    if (digits == 0) return std::nullopt;
    return value;
}

/// "The chksum field shall be the ... simple sum of all octets in the header logical record", itself counted as spaces.
u64 checksum(const Block& block) {
    u64 sum = 0;
    for (u32 i = 0; i < block.size(); ++i) {
        const bool own = i >= ustar::kChecksum.offset && i < ustar::kChecksum.offset + ustar::kChecksum.size;
        sum += own ? u64{' '} : u64{block[i]};
    }
    return sum;
}

/// What is wrong with a block as a header, or "".
std::string header_problem(const Block& block) {
    if (std::memcmp(&block[ustar::kMagic.offset], ustar::kMagicText, ustar::kMagic.size) != 0 ||
        std::memcmp(&block[ustar::kVersion.offset], ustar::kVersionText, ustar::kVersion.size) != 0) {
        return "not a ustar header; the disk is made with: tar --format=ustar -cf DISK children.conf FILE...";
    }
    const auto stored = number(block, ustar::kChecksum);
    if (!stored || *stored != checksum(block)) return "the checksum is wrong";
    if (!number(block, ustar::kSize)) return "the size is not an octal number";
    return {};
}

std::string full_name(const Block& block) {
    const std::string prefix = text(block, ustar::kPrefix), name = text(block, ustar::kName);
    std::string full = prefix.empty() ? name : prefix + '/' + name;
    if (full.starts_with("./")) full.erase(0, 2);
    return full;
}

bool is_file(char type) { return type == ustar::kRegular || type == ustar::kRegularOld || type == ustar::kContiguous; }

}  // namespace

Result<Archive> Archive::open(BlockBackend& disk) {
    Archive archive(disk);
    const u64 end = align_down(disk.size_bytes(), ustar::kBlock);
    for (u64 at = 0; at < end;) {
        Block block{};
        if (!disk.read(at, block)) return damaged(at, "the disk cannot be read");
        if (std::all_of(block.begin(), block.end(), [](u8 byte) { return byte == 0; })) return archive;
        if (const std::string problem = header_problem(block); !problem.empty()) return damaged(at, problem);
        at += ustar::kBlock;

        const char type = static_cast<char>(block[ustar::kTypeflag]);
        if (type == ustar::kDirectory) continue;
        Member member;
        member.name = full_name(block);
        member.offset = at;
        member.size_bytes = *number(block, ustar::kSize);
        const std::string named = "member \"" + member.name + "\" ";
        if (!is_file(type)) return damaged(at - ustar::kBlock, named + "is not a regular file");
        if (member.name.empty()) return damaged(at - ustar::kBlock, "a member has no name");
        if (!fits(at, member.size_bytes, end))
            return damaged(at - ustar::kBlock, named + "goes on behind the disk's end");
        if (archive.find(member.name) != nullptr) return damaged(at - ustar::kBlock, named + "is there twice");
        if (archive.members_.size() == kMaxMembers) {
            return damaged(at - ustar::kBlock, "more than " + std::to_string(kMaxMembers) + " members");
        }
        at += align_up(member.size_bytes, ustar::kBlock);  // within `end`, which is a whole block
        archive.members_.push_back(member);
    }
    return fail(Error::Code::Damaged,
                "archive: no end within " + std::to_string(end) + " bytes: the disk is cut short");
}

const Archive::Member* Archive::find(std::string_view name) const {
    const auto found =
        std::find_if(members_.begin(), members_.end(), [&](const Member& member) { return member.name == name; });
    return found == members_.end() ? nullptr : &*found;
}

Result<BlockWindow> Archive::open(std::string_view name) const {
    const Member* member = find(name);
    if (member == nullptr) return fail(Error::Code::Damaged, "archive: no member \"" + std::string(name) + '"');
    return BlockWindow(*disk_, member->offset, align_up(member->size_bytes, ustar::kBlock));
}

bool Archive::read(const Member& member, std::span<u8> out) const {
    VG_ASSERT(out.size() == member.size_bytes);
    const u64 whole = align_down(out.size(), ustar::kBlock);
    if (whole != 0 && !disk_->read(member.offset, out.first(whole))) return false;
    const std::span<u8> rest = out.subspan(whole);
    if (rest.empty()) return true;
    Block last{};
    if (!disk_->read(member.offset + whole, last)) return false;
    std::copy_n(last.begin(), rest.size(), rest.begin());
    return true;
}

}  // namespace vg::parent
