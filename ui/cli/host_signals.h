// The host's signals: asking a run to stop, and telling of our own mistakes.
#pragma once

#include <termios.h>

namespace vg::cli {

/// SIGINT, SIGTERM and SIGHUP are counted from now on instead of ending the program; the second ends it at once with
/// exit code 130. They interrupt blocking calls. SIGPIPE and SIGXFSZ are ignored: a write to a closed pipe or past the limit of
/// a file's size is an error of the write.
void catch_interrupts();
/// How many came.
[[nodiscard]] int interrupts();

/// However the program ends, these settings of standard input's terminal come back; null: nothing to bring back.
void restore_at_exit(const termios* settings);

/// A failed assertion, an uncaught exception or a fault of the program's own code writes a report into $TMPDIR (or /tmp),
/// prints its path and ends the program with exit code 70. Without effect in builds with sanitizers, which tell more.
void report_own_bugs(int argc, char** argv);

}  // namespace vg::cli
