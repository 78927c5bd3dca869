#include "machine/aml.h"

#include "base/assert.h"

namespace vg::machine {

namespace {

constexpr u8 kNameOp = 0x08, kBytePrefix = 0x0a, kWordPrefix = 0x0b, kDWordPrefix = 0x0c, kStringPrefix = 0x0d,
             kQWordPrefix = 0x0e, kScopeOp = 0x10, kBufferOp = 0x11, kPackageOp = 0x12, kMethodOp = 0x14, kExtOp = 0x5b,
             kDeviceOp = 0x82, kStoreOp = 0x70, kAndOp = 0x7b, kOrOp = 0x7d, kCreateDWordFieldOp = 0x8a, kNotOp = 0x92,
             kEqualOp = 0x93, kIfOp = 0xa0, kElseOp = 0xa1, kReturnOp = 0xa4;

}  // namespace

void Aml::name_string(std::string_view path) {
    if (!path.empty() && path.front() == '\\') {
        bytes_.push_back('\\');
        path.remove_prefix(1);
    }
    VG_ASSERT(!path.empty() && path.size() <= 4);
    for (unsigned i = 0; i < 4; ++i) bytes_.push_back(i < path.size() ? static_cast<u8>(path[i]) : u8{'_'});
}

void Aml::integer(u64 value) {
    if (value <= 1) {
        raw<u8>(static_cast<u8>(value));
    } else if (value <= 0xff) {
        raw(kBytePrefix);
        raw(static_cast<u8>(value));
    } else if (value <= 0xffff) {
        raw(kWordPrefix);
        raw(static_cast<u16>(value));
    } else if (value <= 0xffffffff) {
        raw(kDWordPrefix);
        raw(static_cast<u32>(value));
    } else {
        raw(kQWordPrefix);
        raw(value);
    }
}

/// PkgLength counts itself: one byte holds up to 63, else the low nibble and following bytes.
void Aml::with_length(const Content& content) {
    Aml inner;
    content(inner);
    const std::size_t size = inner.bytes_.size();
    if (size + 1 <= 0x3f) {
        raw(static_cast<u8>(size + 1));
    } else {
        const unsigned extra = size + 2 <= 0xfff ? 1 : 2;
        const std::size_t total = size + 1 + extra;
        VG_ASSERT(total <= 0xfffff);
        raw(static_cast<u8>((extra << 6) | (total & 0xf)));
        for (unsigned i = 0; i < extra; ++i) raw(static_cast<u8>(total >> (4 + 8 * i)));
    }
    bytes_.insert(bytes_.end(), inner.bytes_.begin(), inner.bytes_.end());
}

void Aml::scope(std::string_view path, const Content& content) {
    raw(kScopeOp);
    with_length([&](Aml& inner) {
        inner.name_string(path);
        content(inner);
    });
}

void Aml::device(std::string_view name, const Content& content) {
    raw(kExtOp);
    raw(kDeviceOp);
    with_length([&](Aml& inner) {
        inner.name_string(name);
        content(inner);
    });
}

void Aml::name(std::string_view name, u64 value) {
    raw(kNameOp);
    name_string(name);
    integer(value);
}

void Aml::name(std::string_view name, std::string_view text) {
    raw(kNameOp);
    name_string(name);
    raw(kStringPrefix);
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    raw(u8{0});
}

void Aml::name_eisa(std::string_view name, std::string_view id) {
    VG_ASSERT(id.size() == 7);
    const auto letter = [&](unsigned i) { return static_cast<u32>(id[i] - 0x40) & 0x1f; };
    const auto digit = [&](unsigned i) { return static_cast<u32>(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10); };
    const u32 value = (letter(0) << 26) | (letter(1) << 21) | (letter(2) << 16) | (digit(3) << 12) | (digit(4) << 8) |
                      (digit(5) << 4) | digit(6);
    raw(kNameOp);
    name_string(name);
    raw(kDWordPrefix);
    raw(__builtin_bswap32(value));
}

void Aml::name_package(std::string_view name, const std::vector<u64>& values) {
    name_package(name, static_cast<u32>(values.size()), [&](Aml& inner) {
        for (const u64 value : values) inner.integer(value);
    });
}

void Aml::name_package(std::string_view name, u32 count, const Content& content) {
    raw(kNameOp);
    name_string(name);
    package(count, content);
}

void Aml::empty_method(std::string_view name) {
    raw(kMethodOp);
    with_length([&](Aml& inner) {
        inner.name_string(name);
        inner.raw(u8{0});
    });
}

void Aml::method(std::string_view name, u32 arguments, const Content& content) {
    VG_ASSERT(arguments <= 7);
    raw(kMethodOp);
    with_length([&](Aml& inner) {
        inner.name_string(name);
        constexpr u32 kSerialized = 8;
        inner.raw(static_cast<u8>(arguments | kSerialized));
        content(inner);
    });
}

void Aml::if_then(const Content& predicate, const Content& content) {
    raw(kIfOp);
    with_length([&](Aml& inner) {
        predicate(inner);
        content(inner);
    });
}

void Aml::otherwise(const Content& content) {
    raw(kElseOp);
    with_length(content);
}

void Aml::store(const Content& value, const Content& target) {
    raw(kStoreOp);
    value(*this);
    target(*this);
}

void Aml::give_back(const Content& value) {
    raw(kReturnOp);
    value(*this);
}

void Aml::dword_field(const Content& source, u64 byte_index, std::string_view name) {
    raw(kCreateDWordFieldOp);
    source(*this);
    integer(byte_index);
    name_string(name);
}

void Aml::buffer(const std::vector<u8>& content) {
    raw(kBufferOp);
    with_length([&](Aml& inner) {
        inner.integer(content.size());
        inner.bytes_.insert(inner.bytes_.end(), content.begin(), content.end());
    });
}

void Aml::package(u32 count, const Content& content) {
    VG_ASSERT(count <= 0xff);
    raw(kPackageOp);
    with_length([&](Aml& inner) {
        inner.raw(static_cast<u8>(count));
        content(inner);
    });
}

void Aml::equal(const Content& a, const Content& b) {
    raw(kEqualOp);
    a(*this);
    b(*this);
}

void Aml::not_equal(const Content& a, const Content& b) {
    raw(kNotOp);
    equal(a, b);
}

void Aml::bit_and(const Content& a, const Content& b, const Content& target) {
    raw(kAndOp);
    a(*this);
    b(*this);
    target(*this);
}

void Aml::bit_or(const Content& a, const Content& b, const Content& target) {
    raw(kOrOp);
    a(*this);
    b(*this);
    target(*this);
}

void Aml::resources(const Content& content) {
    Aml inner;
    content(inner);
    inner.raw(u8{0x79});  // end tag; checksum 0: not checked
    inner.raw(u8{0});
    raw(kNameOp);
    name_string("_CRS");
    buffer(inner.bytes_);
}

void Aml::io(u16 base, u8 count) {
    raw(u8{0x47});
    raw(u8{1});  // decodes 16 bits
    raw(base);
    raw(base);
    raw(u8{1});
    raw(count);
}

void Aml::interrupt(u32 gsi) {
    raw(u8{0x89});
    raw(u16{6});
    raw(u8{3});  // consumer, edge, active high, exclusive
    raw(u8{1});
    raw(gsi);
}

void Aml::qword_memory(u64 base, u64 size) {
    raw(u8{0x8a});
    raw(u16{43});
    raw(u8{0});     // memory range
    raw(u8{0x0c});  // producer, minimum and maximum fixed
    raw(u8{1});     // read-write, not cacheable
    raw(u64{0});
    raw(base);
    raw(base + size - 1);
    raw(u64{0});
    raw(size);
}

void Aml::dword_memory(u32 base, u32 size) {
    raw(u8{0x87});
    raw(u16{23});
    raw(u8{0});     // memory range
    raw(u8{0x0c});  // producer, minimum and maximum fixed
    raw(u8{1});     // read-write, not cacheable
    raw(u32{0});
    raw(base);
    raw(base + (size - 1));
    raw(u32{0});
    raw(size);
}

void Aml::fixed_memory(u32 base, u32 size) {
    raw(u8{0x86});
    raw(u16{9});
    raw(u8{1});  // read-write
    raw(base);
    raw(size);
}

void Aml::word_bus(u16 first, u16 count) {
    raw(u8{0x88});
    raw(u16{13});
    raw(u8{2});     // bus numbers
    raw(u8{0x0c});  // producer, minimum and maximum fixed
    raw(u8{0});
    raw(u16{0});
    raw(first);
    raw(static_cast<u16>(first + count - 1));
    raw(u16{0});
    raw(count);
}

void Aml::word_io(u16 base, u16 size) {
    raw(u8{0x88});
    raw(u16{13});
    raw(u8{1});     // I/O range
    raw(u8{0x0c});  // producer, minimum and maximum fixed
    raw(u8{3});     // all of it
    raw(u16{0});
    raw(base);
    raw(static_cast<u16>(base + size - 1));
    raw(u16{0});
    raw(size);
}

}  // namespace vg::machine
