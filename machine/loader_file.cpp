// Kernels and initrds from files.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/host_memory.h"
#include "machine/loader.h"

namespace vg::machine {

namespace {

Unexpected<Error> bad(const std::string& file, std::string text) {
    return fail(Error::Code::Usage, fmt::format("{}: {}", file, text));
}

}  // namespace

Result<std::vector<u8>> read_file(const std::string& path, u64 limit) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (fd < 0 || ::fstat(fd, &info) != 0) {
        const int code = errno;
        if (fd >= 0) ::close(fd);
        return bad(path, fmt::format("cannot be read: {}", std::strerror(code)));
    }
    if (static_cast<u64>(info.st_size) > limit) {
        ::close(fd);
        return bad(path, fmt::format("has {} bytes, more than the {} allowed here", info.st_size, limit));
    }
    std::vector<u8> content;
    content.reserve(static_cast<std::size_t>(info.st_size));
    populate(content.data(), content.capacity());  // filling it with zeros would take a page fault for each page
    content.resize(static_cast<std::size_t>(info.st_size));
    u64 done = 0;
    while (done < content.size()) {
        const ssize_t count = ::read(fd, content.data() + done, content.size() - done);
        if (count <= 0) break;
        done += static_cast<u64>(count);
    }
    ::close(fd);
    if (done != content.size()) return bad(path, "became shorter while it was read; try again");
    return content;
}

Result<EntryState> load_kernel(GuestMemory& memory, const LoadRequest& request) {
    auto kernel = read_file(request.kernel, u64{1} << 30);
    if (!kernel) return Unexpected{kernel.error()};
    std::vector<u8> initrd;
    if (!request.initrd.empty()) {
        auto content = read_file(request.initrd, u64{2} << 30);
        if (!content) return Unexpected{content.error()};
        initrd = std::move(*content);
    }
    std::vector<std::vector<u8>> contents;
    BootImages images{*kernel, initrd};
    for (const std::string& module : request.modules) {
        auto content = read_file(module_file(module), u64{2} << 30);
        if (!content) return Unexpected{content.error()};
        contents.push_back(std::move(*content));
        images.modules.push_back(contents.back());
    }
    return load_images(memory, request, images);
}

}  // namespace vg::machine
