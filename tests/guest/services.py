# Drives a guest made by tools/make-services-guest: services.py VERDIGRIS SOCKET CONSOLE VIDEO-DRIVER PNG. Prints a line per check.
import json
import os
import re
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from picture import pixels, shows  # noqa: E402

verdigris, path, console, video, picture = sys.argv[1:6]


class Control:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        self.next = 0
        self.partition = next(p["id"] for p in self.ask("partitions") if p["kind"] == "child")

    def ask(self, op, **keys):
        self.next += 1
        self.file.write(json.dumps({"id": self.next, "op": op, **keys}) + "\n")
        self.file.flush()
        while True:
            reply = json.loads(self.file.readline())
            if reply.get("id") == self.next:
                return reply["result"] if reply["ok"] else {"error": reply["error"]}

    def type(self, text):
        while text:
            text = text[self.ask("type", partition=self.partition, text=text)["taken"]:]
            time.sleep(0.02)


def check(what, good, more=""):
    print(("ok: " if good else "FAILED: ") + what + ("" if good else "  " + str(more)[:300]), flush=True)
    return good


def text():
    with open(console, errors="replace") as file:
        return file.read()


def wait(pattern, seconds=30):
    until = time.time() + seconds
    while time.time() < until:
        found = re.search(pattern, text(), re.M)
        if found:
            return found
        time.sleep(0.1)
    return None


def guest(*words, code=0, seconds=60):
    done = subprocess.run([verdigris, "guest", "unix:" + path, *words], capture_output=True, text=True, timeout=seconds + 30)
    check("guest " + " ".join(words), done.returncode == code, (done.returncode, done.stdout, done.stderr))
    return done.stdout.strip()


marks = 0


def shell(command, seconds=30):
    """Runs a command in the guest; what it printed."""
    global marks
    marks += 1
    control.type(f"{command}; echo; echo END{marks}$((1))\n")
    found = wait(rf"^((?:.*\n)*?)END{marks}1", seconds)
    if not found:
        return ""
    return text().rsplit(f"; echo; echo END{marks}$((1))", 1)[1].split(f"END{marks}1")[0].strip()


control = Control()
check("userspace is reached", wait(r"^services: ready", 60), text()[-500:])
check("the KVP daemon has registered", wait(r"KVP IC version", 30))
check("the VSS daemon has registered", wait(r"VSS: userspace daemon", 30))
check("the heart beats", guest("heartbeat") == "alive")
status = json.loads(guest("status"))
check("every service is ready", all(s.get("state", "ready") == "ready" and s.get("ready", True) for s in status.values()), status)
check("the screen is on", status["video"]["on"] and (status["video"]["width"], status["video"]["height"]) == (1024, 768), status["video"])

# ---- key-value pairs
for pool in ("external", "guest", "auto_external", "auto_internal"):
    guest("kvp", "set", "Greeting", "grüße, host", "--pool", pool)
    check(pool + ": the value is there", guest("kvp", "get", "Greeting", "--pool", pool) == "grüße, host")
guest("kvp", "set", "Number", "4294967295", "--type", "u32")
guest("kvp", "set", "Greeting", "another")
check("the list has both", guest("kvp", "list").splitlines() == ["Greeting = another", "Number = 4294967295"])
check("the guest sees them", "1" in shell("grep -c Greeting /var/lib/hyperv/.kvp_pool_0"))
guest("kvp", "delete", "Greeting")
check("one is left", guest("kvp", "list").splitlines() == ["Number = 4294967295"])
guest("kvp", "delete", "Greeting", code=1)
about = guest("kvp", "list", "--pool", "auto")
check("the guest says what it is", "OSName = Debian GNU/Linux" in about and "OSVersion = 6.1" in about, about)
guest("kvp", "ip", "00:15:5d:00:00:01", code=1)  # no such adapter

# ---- volume snapshots
guest("freeze")
control.type("(echo x >/mnt/frozen; echo written) &\n")
time.sleep(2)
check("a frozen file system is not written", not wait(r"^written", 1))
guest("thaw")
check("a thawed one is", wait(r"^written", 10))

# ---- keyboard, mouse, screen
guest("type", "Typed: ~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./ 0123456789\\n")
typed = shell("cat /tmp/typed")
check("every typed character arrives", "Typed: ~!@#$%^&*()_+{}|:\"<>?`-=[]\\;',./ 0123456789" in typed, typed)
guest("keys", "shift+h", "i", "enter")
check("chords arrive", "Hi" in shell("cat /tmp/typed"))
event = shell("grep -l 'HID-compliant Mouse' /sys/class/input/event*/device/name | sed 's,.*/\\(event[0-9]*\\)/.*,\\1,'")
control.type(f"busybox dd if=/dev/input/{event} bs=24 count=4 2>/dev/null | busybox od -An -t d4 -v >/tmp/mouse &\n")
time.sleep(1)
guest("mouse", "12345", "23456", "1")
time.sleep(1)
moved = shell("cat /tmp/mouse")
check("the mouse is where it was put", "12345" in moved and "23456" in moved, moved)
shell("printf '\\033[2J\\033[H\\n\\n HI HUI\\n' >/dev/tty1")
time.sleep(1)
subprocess.run([verdigris, "inspect", "unix:" + path, "linux", "--png", picture], check=True, stdout=subprocess.DEVNULL)
shown = pixels(picture)
check("the picture has the size of the screen", shown[:2] == (1024, 768))
check("the console's text is in it", shows(" HI HUI ", *shown))
check("and no other", not shows("HUH", *shown))
before = json.loads(guest("status"))["video"]["updates"]
shell("echo HUH >/dev/tty1")
time.sleep(1)
check("the guest tells of what is drawn", json.loads(guest("status"))["video"]["updates"] > before)

# ---- memory
total = lambda: int(re.search(r"MemTotal: +(\d+)", shell("grep MemTotal /proc/meminfo")).group(1)) // 1024
first = total()
guest("memory", "384 MiB")
check("the guest has less", abs(first - 128 - total()) <= 2)
guest("memory", "512 MiB")
check("the guest has what it had", abs(first - total()) <= 2)
shell("echo online >/sys/devices/system/memory/auto_online_blocks")
guest("memory", "768 MiB")
check("the guest has more", abs(first + 256 - total()) <= 8)
shell("busybox mount -o remount,size=700m /tmp")
check("the memory can be used", "76800+0" in shell("busybox dd if=/dev/zero of=/tmp/big bs=8k count=76800 2>&1 | grep records.out", 90))

# ---- clock
guest("time")
check("the clock was set twice", json.loads(guest("status"))["time_sync"]["synchronizations"] == 2)
now = control.ask("status")["time"] // 10**9
said = int(shell("date +%s").split()[-1])
check("the guest's clock is the machine's", abs(said - 1767225600 - now) <= 2, (said, now))

guest("shutdown")
for _ in range(100):
    try:
        if control.ask("status")["outcome"]["kind"] == "powered_off":
            break
    except (OSError, ValueError, KeyError):
        break
    time.sleep(0.1)
check("the guest powered off", wait(r"reboot: Power down", 10))
