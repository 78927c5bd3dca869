"""The control protocol for tests: Control(PATH).ask("status"), consoles by partition name."""
import json
import socket
import time


class Gone(Exception):
    """The machine has ended."""


class Control:
    def __init__(self, path, seconds=60):
        until = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        self.file = self.socket.makefile("rw")
        self.next = 0
        self.text = {}  # what each console has said, by name
        self.read = {}

    def ask(self, op, **keys):
        """The result; an error's text as {"error": ...}."""
        self.next += 1
        try:
            self.file.write(json.dumps({"id": self.next, "op": op, **keys}) + "\n")
            self.file.flush()
            while True:
                line = self.file.readline()
                if not line:
                    raise Gone
                reply = json.loads(line)
                if reply.get("id") == self.next:
                    return reply["result"] if reply["ok"] else {"error": reply["error"]}
        except OSError:
            raise Gone from None

    def children(self):
        """Partition ids by name."""
        return {p["name"]: p["id"] for p in self.ask("partitions") if p["kind"] == "child"}

    def listen(self):
        """Reads on from every child's console."""
        for name, number in self.children().items():
            while True:
                part = self.ask("console", partition=number, after=self.read.get(name, 0))
                if "error" in part or part["next"] == self.read.get(name, 0):
                    break
                self.read[name] = part["next"]
                self.text[name] = self.text.get(name, "") + bytes.fromhex(part["text"]).decode(errors="replace").replace("\r", "")

    def wait(self, done, seconds):
        """Listens until done(texts) is true. False: it never was."""
        until = time.monotonic() + seconds
        while not done(self.text):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
            self.listen()
        return True

    def type(self, partition, text, seconds=30):
        until = time.monotonic() + seconds
        while text and time.monotonic() < until:
            text = text[self.ask("type", partition=partition, text=text).get("taken", 0):]
            if text:
                time.sleep(0.02)
        return not text


def check(what, good, more=""):
    print(("ok: " if good else "FAILED: ") + what + ("" if good else "  " + str(more)[-400:]), flush=True)
    return good
