"""Runs one command and stamps what it says.

The guest's init (bench/guest/init.c) brackets each workload with `MARK begin NAME` and `MARK end NAME` on the console. The
host's clock and the processor time of the emulator's processes at the arrival of those lines are what counts: virtual time
gains nothing. BENCH lines carry the guest's own clock beside it.
"""
import os
import re
import select
import shlex
import signal
import subprocess
import time

MARK = re.compile(r"MARK (begin|end) (\S+)|MARK (alldone)|MARK boot (userspace)")
PRIORITY = int(os.environ.get("BENCH_PRIO", "0"))  # of the run's session against others: -15 is ahead (needs root)


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        try:
            for thread in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{thread}/children") as file:
                    todo += [int(child) for child in file.read().split()]
            found.append(current)
        except OSError:
            pass  # gone meanwhile
    return found


def cpu_seconds(pid):
    """Processor seconds, user and system, that the process tree has used so far."""
    total = 0
    for process in descendants(pid):
        try:
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
        except OSError:
            pass
    return total * 1e-9


def peak_mib(pid):
    peak = 0
    for process in descendants(pid):
        try:
            with open(f"/proc/{process}/status") as file:
                found = re.search(r"VmHWM:\s+(\d+)", file.read())
            peak = max(peak, int(found[1]) if found else 0)
        except OSError:
            pass
    return peak / 1024


class Run:
    """What one run said. work: per workload wall, cpu, guest (seconds), rc, out. boot and boot_cpu: seconds from the
    start to the first line of userspace."""

    def __init__(self, pid, on_mark):
        self.pid, self.start, self.on_mark = pid, time.monotonic(), on_mark
        self.work, self.info, self.text = {}, {}, []
        self.boot = self.boot_cpu = self.killed = None
        self.peak_mib, self.done = 0.0, False
        self._begun = {}

    def line(self, text, now):
        mark = MARK.search(text)
        if mark:
            self._mark(mark, now)
            return
        words = text.split()
        kind = words[0] if words else ""
        if kind == "BENCH" and len(words) >= 3:
            self._item(words[1])["guest"] = float(words[2])
        elif kind == "CPU" and len(words) >= 4:
            self._item(words[1])["rusage"] = float(words[2]) + float(words[3])
        elif kind == "OUT" and len(words) >= 5:
            self._item(words[1]).update(rc=int(words[2]), out=words[3] + ":" + words[4])
        elif kind == "INFO" and len(words) >= 3:
            self.info[words[1]] = words[2]
        elif kind in ("TEXT", "ERR"):
            self.text.append(text)

    def _item(self, name):
        return self.work.setdefault(name, {})

    def _mark(self, mark, now):
        if mark[1]:
            self.on_mark(mark[1], mark[2], self.pid)
        if mark[1] == "begin":
            self._begun[mark[2]] = now, cpu_seconds(self.pid)
        elif mark[1] == "end" and mark[2] in self._begun:
            wall, cpu = self._begun.pop(mark[2])
            self._item(mark[2]).update(wall=now - wall, cpu=cpu_seconds(self.pid) - cpu)
        elif mark[3]:
            self.done = True
        elif mark[4]:
            self.boot, self.boot_cpu = now - self.start, cpu_seconds(self.pid)


def run(argv, log, timeout, stall, on_mark=lambda kind, name, pid: None, at_once=True):
    """Runs the command until `MARK alldone`, its end, `timeout` seconds or `stall` seconds of silence; then ends it.
    Appends what it printed to the file `log`. Calls on_mark("begin" or "end", name, pid) as marks arrive.
    at_once=False: gives it a minute to end by itself after the last mark."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    if PRIORITY:  # sessions share the processors as groups, so nice alone would not do
        try:
            with open(f"/proc/{process.pid}/autogroup", "w") as file:
                file.write(str(PRIORITY))
        except OSError:
            pass
    result, rest, heard = Run(process.pid, on_mark), b"", time.monotonic()
    with open(log, "ab") as out:
        out.write((shlex.join(argv) + "\n").encode())
        while not result.done:
            ready, _, _ = select.select([process.stdout], [], [], 1.0)
            now = time.monotonic()
            if ready:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                heard = now
                out.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    result.line(line.decode("latin1").strip(), now)
            elif now - result.start > timeout or now - heard > stall:
                result.killed = "timeout" if now - result.start > timeout else f"silent for {stall:.0f} s"
                break
    result.peak_mib = peak_mib(process.pid)
    if not at_once:
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)  # the session started above
    except OSError:
        pass
    process.wait()
    process.stdout.close()
    return result
