#include "ui/model/btf.h"

#include <cstring>

#include "base/bits.h"

namespace vg::model {
namespace {

constexpr u16 kMagic = 0xeb9f;
constexpr u8 kVersion = 1;

struct Header {
    u16 magic;
    u8 version, flags;
    u32 header_size, type_offset, type_size, string_offset, string_size;
};
static_assert(sizeof(Header) == 24);

/// What every type begins with: name, info (24 bits 4:0 kind, 31 bit-field sizes in members, 15:0 count), size or type.
constexpr u64 kTypeBytes = 12;

enum Kind : u32 {
    kInt = 1,
    kPtr,
    kArray,
    kStruct,
    kUnion,
    kEnum,
    kFwd,
    kTypedef,
    kVolatile,
    kConst,
    kRestrict,
    kFunc,
    kFuncProto,
    kVar,
    kDataSec,
    kFloat,
    kDeclTag,
    kTypeTag,
    kEnum64
};

u32 kind_of(u32 info) { return static_cast<u32>(bits(info, 28, 24)); }
u32 count_of(u32 info) { return info & 0xffff; }
/// Offsets of members are 24 bits then, with a bit field's size above.
bool sized_members(u32 info) { return bit(info, 31); }

/// Bytes behind the head, or nothing for a kind that does not exist (yet): the rest cannot be found then.
std::optional<u64> extra(u32 info) {
    const u64 count = count_of(info);
    switch (kind_of(info)) {
        case kInt:
        case kVar:
        case kDeclTag:
            return 4;
        case kArray:
            return 12;
        case kStruct:
        case kUnion:
        case kDataSec:
        case kEnum64:
            return count * 12;
        case kEnum:
        case kFuncProto:
            return count * 8;
        case kPtr:
        case kFwd:
        case kTypedef:
        case kVolatile:
        case kConst:
        case kRestrict:
        case kFunc:
        case kFloat:
        case kTypeTag:
            return 0;
        default:
            return std::nullopt;
    }
}

/// Types through which a member's meaning is looked for: more are a loop.
constexpr unsigned kMaxDepth = 16;
/// Members that one search looks at.
constexpr u32 kMaxMembers = 65536;

}  // namespace

std::optional<Btf> Btf::parse(std::vector<u8> bytes) {
    Header header{};
    if (bytes.size() < sizeof header || bytes.size() > kMaxBytes) return std::nullopt;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.magic != kMagic || header.version != kVersion || header.header_size < sizeof header) return std::nullopt;
    const u64 types = u64{header.header_size} + header.type_offset;
    const u64 strings = u64{header.header_size} + header.string_offset;
    if (!fits(types, header.type_size, bytes.size()) || !fits(strings, header.string_size, bytes.size()))
        return std::nullopt;
    Btf btf;
    btf.bytes_ = std::move(bytes);
    btf.strings_ = strings;
    btf.strings_size_ = header.string_size;
    const u64 end = types + header.type_size;
    for (u64 at = types; at + kTypeBytes <= end;) {
        const auto more = extra(btf.word(at + 4));
        if (!more || at + kTypeBytes + *more > end || btf.types_.size() == kMaxTypes) break;
        btf.types_.push_back(static_cast<u32>(at));
        at += kTypeBytes + *more;
    }
    if (btf.types_.empty()) return std::nullopt;
    return btf;
}

u32 Btf::word(u64 at) const {
    u32 value = 0;
    if (fits(at, sizeof value, bytes_.size())) std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
}

std::string_view Btf::string(u32 offset) const {
    if (offset >= strings_size_) return {};
    const char* text = reinterpret_cast<const char*>(bytes_.data() + strings_ + offset);
    return {text, strnlen(text, strings_size_ - offset)};
}

u32 Btf::find_struct(std::string_view name) const {
    for (u32 i = 0; i < types_.size(); ++i) {
        const u32 at = types_[i];
        if (kind_of(word(at + 4)) == kStruct && string(word(at)) == name) return i + 1;
    }
    return 0;
}

/// The type behind names and qualifiers; 0: none.
u32 Btf::resolve(u32 type) const {
    for (unsigned i = 0; i < kMaxDepth; ++i) {
        if (type == 0 || type > types_.size()) return 0;
        switch (kind_of(word(types_[type - 1] + 4))) {
            case kTypedef:
            case kVolatile:
            case kConst:
            case kRestrict:
            case kTypeTag:
                type = word(types_[type - 1] + 8);
                break;
            default:
                return type;
        }
    }
    return 0;
}

/// @param budget  members that may still be looked at
std::optional<Btf::Member> Btf::member(u32 type, std::string_view name, unsigned depth, u32& budget) const {
    type = resolve(type);
    if (type == 0 || depth == kMaxDepth) return std::nullopt;
    const u32 at = types_[type - 1], info = word(at + 4);
    if (kind_of(info) != kStruct && kind_of(info) != kUnion) return std::nullopt;
    if (budget < count_of(info)) return std::nullopt;
    budget -= count_of(info);
    for (u32 i = 0; i < count_of(info); ++i) {
        const u64 each = at + kTypeBytes + u64{i} * 12;
        const u32 where = word(each + 8);
        const u32 first_bit = sized_members(info) ? where & 0xffffff : where;
        if (string(word(each)) == name) {
            if ((first_bit & 7) != 0 || (sized_members(info) && (where >> 24) != 0)) return std::nullopt;
            return Member{first_bit / 8, word(each + 4)};
        }
    }
    for (u32 i = 0; i < count_of(info); ++i) {
        const u64 each = at + kTypeBytes + u64{i} * 12;
        if (!string(word(each)).empty()) continue;
        const u32 where = word(each + 8);
        if (auto found = member(word(each + 4), name, depth + 1, budget)) {
            found->offset += (sized_members(info) ? where & 0xffffff : where) / 8;
            return found;
        }
    }
    return std::nullopt;
}

std::optional<Btf::Member> Btf::follow(std::string_view type, std::string_view path) const {
    Member at{0, find_struct(type)};
    while (!path.empty()) {
        const std::size_t dot = path.find('.');
        u32 budget = kMaxMembers;
        const auto next = member(at.type, path.substr(0, dot), 0, budget);
        if (!next) return std::nullopt;
        at = {at.offset + next->offset, next->type};
        path = dot == std::string_view::npos ? std::string_view{} : path.substr(dot + 1);
    }
    if (at.type == 0) return std::nullopt;
    return at;
}

std::optional<u64> Btf::offset(std::string_view type, std::string_view path) const {
    const auto found = follow(type, path);
    if (!found) return std::nullopt;
    return found->offset;
}

std::optional<u64> Btf::size(std::string_view type) const {
    const u32 found = find_struct(type);
    if (found == 0) return std::nullopt;
    return word(types_[found - 1] + 8);
}

std::optional<u64> Btf::elements(std::string_view type, std::string_view path) const {
    const auto found = follow(type, path);
    const u32 array = found ? resolve(found->type) : 0;
    if (array == 0 || kind_of(word(types_[array - 1] + 4)) != kArray) return std::nullopt;
    return word(types_[array - 1] + kTypeBytes + 8);
}

}  // namespace vg::model
