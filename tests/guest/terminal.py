"""Runs a command on a pseudo terminal, ends it in several ways, and compares the terminal's settings before and after."""
import os
import pty
import signal
import sys
import termios
import time


def run(command, end):
    """Starts the command, waits for raw mode, lets `end` end it. Returns its exit code and whether the settings are back."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(master)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.execv(command[0], command)
    os.set_blocking(master, False)
    deadline = time.monotonic() + 60
    ended = False
    while time.monotonic() < deadline:
        try:
            os.read(master, 65536)
        except BlockingIOError:
            time.sleep(0.01)
        if not ended and termios.tcgetattr(slave) != before:
            time.sleep(0.2)
            end(pid, master)
            ended = True
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), ended and termios.tcgetattr(slave) == before
    os.kill(pid, signal.SIGKILL)
    return None, False


def twice(pid, _):
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGTERM)


WAYS = {
    "Ctrl-A X": (lambda pid, master: os.write(master, b"\x01x"), 130),
    "SIGTERM": (lambda pid, master: os.kill(pid, signal.SIGTERM), 130),
    "SIGTERM twice": (twice, 130),
    "SIGHUP": (lambda pid, master: os.kill(pid, signal.SIGHUP), 130),
    "our own bug": (lambda pid, master: os.kill(pid, signal.SIGSEGV), 70),
}
failed = False
for name, (end, expected) in WAYS.items():
    code, restored = run(sys.argv[1:], end)
    if code != expected or not restored:
        print(f"  {name}: exit code {code}, settings {'back' if restored else 'not back'}")
        failed = True
sys.exit(failed)
