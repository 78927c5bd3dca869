#include "machine/aml.h"

#include "base/assert.h"

namespace vg::machine {

namespace {

constexpr u8 kNameOp = 0x08, kBytePrefix = 0x0a, kWordPrefix = 0x0b, kDWordPrefix = 0x0c, kStringPrefix = 0x0d,
             kQWordPrefix = 0x0e, kScopeOp = 0x10, kBufferOp = 0x11, kPackageOp = 0x12, kMethodOp = 0x14, kExtOp = 0x5b,
             kDeviceOp = 0x82;

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
    raw(kNameOp);
    name_string(name);
    raw(kPackageOp);
    with_length([&](Aml& inner) {
        inner.raw(static_cast<u8>(values.size()));
        for (const u64 value : values) inner.integer(value);
    });
}

void Aml::empty_method(std::string_view name) {
    raw(kMethodOp);
    with_length([&](Aml& inner) {
        inner.name_string(name);
        inner.raw(u8{0});
    });
}

void Aml::resources(const Content& content) {
    Aml inner;
    content(inner);
    inner.raw(u8{0x79});  // end tag; checksum 0: not checked
    inner.raw(u8{0});
    raw(kNameOp);
    name_string("_CRS");
    raw(kBufferOp);
    with_length([&](Aml& buffer) {
        buffer.integer(inner.bytes_.size());
        buffer.bytes_.insert(buffer.bytes_.end(), inner.bytes_.begin(), inner.bytes_.end());
    });
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

}  // namespace vg::machine
