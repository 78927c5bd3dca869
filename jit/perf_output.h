// Translated code for perf(1): names by address (perf map), or names and code by time (jitdump).
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "base/result.h"
#include "jit/watcher.h"

namespace vg::jit {

/// "guest_k64_ffffffff81000000_1000000_12": ring (k or u), code size, guest address, system-physical address,
/// instructions.
[[nodiscard]] std::string translation_name(const Translation& translation);

/// Writes /tmp/perf-PID.map, which perf reads by itself. When the code cache was emptied, its addresses mean
/// something else, and samples from before get wrong names: use JitDump where that matters.
class PerfMap final : public TranslationWatcher {
  public:
    /// Error (Host): the file cannot be written.
    static Result<std::unique_ptr<PerfMap>> create();
    void thunks(std::span<const u8> host) override;
    void end(const Translation& translation) override;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    void write(std::span<const u8> host, const std::string& name);
    std::string path_;
    std::unique_ptr<std::FILE, Close> file_;
};

/// Writes FOLDER/jit-PID.dump in the format of Linux's tools/perf/Documentation/jitdump-specification.txt, version 1:
///     perf record -k mono verdigris run ... --jitdump . && perf inject --jit -i perf.data -o perf.jit.data
class JitDump final : public TranslationWatcher {
  public:
    /// Error (Host): the file cannot be written or mapped.
    static Result<std::unique_ptr<JitDump>> create(const std::string& folder);
    ~JitDump() override;
    JitDump(const JitDump&) = delete;
    JitDump& operator=(const JitDump&) = delete;
    void thunks(std::span<const u8> host) override;
    void end(const Translation& translation) override;
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    JitDump() = default;
    void write_load(std::span<const u8> host, const std::string& name);
    std::string path_;
    std::FILE* file_ = nullptr;
    void* mark_ = nullptr;  ///< the mapping by which perf finds the file
    u64 next_index_ = 0;
};

}  // namespace vg::jit
