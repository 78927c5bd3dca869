"""Checks the forms that `verdigris trace` writes against what is published about them, and against each other.

    trace_formats.py drcov FILE        DynamoRIO's drcov log, version 2 with a version 2 module table, as its readers parse it
    trace_formats.py tenet FILE JSONL  Tenet's text deltas (tracers/README.md of the plugin), against the same window as JSON lines
    trace_formats.py perfetto FILE     Trace Event Format, JSON object form
    trace_formats.py jsonl FILE        our JSON lines: each an object with what docs/trace-format.md promises
    trace_formats.py text FILE JSONL   the text lines say what the JSON lines say
    trace_formats.py objdump FILE      JSON lines: lengths and mnemonics against binutils' disassembler
Prints a line of what it found; exit code 1 with the reason if something is wrong.
"""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile


def fail(text):
    print(text)
    sys.exit(1)


def objects(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def drcov(path):
    with open(path, "rb") as file:
        data = file.read()
    head, mark, rest = data.partition(b"BB Table: ")
    if not mark:
        fail("no block table")
    lines = head.decode("utf-8").splitlines()
    if lines[0] != "DRCOV VERSION: 2" or not lines[1].startswith("DRCOV FLAVOR: "):
        fail("header")
    table = re.fullmatch(r"Module Table: version 2, count (\d+)", lines[2])
    if not table or lines[3] != "Columns: id, base, end, entry, path" or len(lines) != 4 + int(table[1]):
        fail("module table")
    modules = {}
    for number, line in enumerate(lines[4:]):
        fields = line.strip().split(", ")
        if len(fields) != 5 or int(fields[0]) != number:
            fail(f"module {line}")
        base, end = int(fields[1], 16), int(fields[2], 16)
        int(fields[3], 16)
        if base >= end:
            fail(f"module {line} is empty")
        modules[number] = (base, end, fields[4])
    count, rest = rest.split(b"\n", 1)
    total = int(count.decode().split(" ")[0])
    if not count.endswith(b" bbs") or len(rest) != 8 * total:
        fail(f"{total} blocks in {len(rest)} bytes")
    kernel = 0
    for start, size, module in struct.iter_unpack("<IHH", rest):
        base, end, name = modules[module]
        if size == 0 or base + start + size > end:
            fail(f"a block outside of its module {name}")
        kernel += name == "vmlinux"
    if total == 0:
        fail("no blocks")
    # What lies in one address space is told apart by place: no two of these overlap.
    spaces = {}
    for base, end, name in modules.values():
        spaces.setdefault(re.sub(r"-[0-9a-f]+$", "", name) if "cr3" in name else "kernel half", []).append((base, end, name))
    for space, ranges in spaces.items():
        ranges.sort()
        for (_, end, name), (base, _, following) in zip(ranges, ranges[1:]):
            if end > base and "vmlinux" not in (name, following):
                fail(f"modules {name} and {following} of {space} overlap")
    print(f"drcov: {len(modules)} modules, {total} blocks, {kernel} of the kernel")


def tenet(path, jsonl):
    registers = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", "RIP"} | {f"R{n}" for n in range(8, 16)}
    state, rips, accesses = {}, [], []
    with open(path, encoding="ascii") as lines:
        for number, line in enumerate(lines):
            here = []
            for delta in line.strip().split(","):
                name, value = delta.split("=")
                name = name.upper()
                if name in ("MR", "MW", "MRW"):
                    address, content = value.split(":")
                    here.append((name, int(address, 16), bytes.fromhex(content)))
                elif name in registers:
                    state[name] = int(value, 16)
                else:
                    fail(f"line {number + 1}: {name}")
            if number == 0 and set(state) != registers:
                fail("the first line does not have all registers")
            rips.append(state["RIP"])
            accesses.append(here)
    wanted = [entry for entry in objects(jsonl) if "pc" in entry]
    first = (wanted[0]["partition"], wanted[0]["vp"])
    wanted = [entry for entry in wanted if (entry["partition"], entry["vp"]) == first]
    if rips[:-1] != [int(entry["pc"], 16) for entry in wanted]:
        fail("the addresses are not those of the JSON lines")
    for entry, here in zip(wanted, accesses[1:]):
        known = [("MW" if a["write"] else "MR", int(a["address"], 16), bytes.fromhex(a["value"])) for a in entry.get("accesses", []) if "value" in a]
        if known != here:
            fail(f"{entry}: {here}")
    print(f"tenet: {len(rips)} lines, {sum(map(len, accesses))} accesses")


def perfetto(path):
    with open(path, encoding="utf-8") as file:
        trace = json.load(file)
    events = trace["traceEvents"]
    if trace.get("displayTimeUnit") not in ("ms", "ns"):
        fail("displayTimeUnit")
    named, kinds = set(), {}
    for event in events:
        if not isinstance(event.get("pid"), int) or not isinstance(event.get("tid"), int) or not isinstance(event["name"], str):
            fail(f"{event}")
        kinds[event["ph"]] = kinds.get(event["ph"], 0) + 1
        if event["ph"] == "M":
            if event["name"] not in ("process_name", "thread_name") or not isinstance(event["args"]["name"], str):
                fail(f"{event}")
            named.add((event["pid"], event["tid"]))
            continue
        if not isinstance(event["ts"], (int, float)) or event["ts"] < 0:
            fail(f"{event}")
        if event["ph"] == "X" and (not isinstance(event["dur"], (int, float)) or event["dur"] <= 0):
            fail(f"{event}")
        if event["ph"] == "i" and event.get("s") not in ("t", "p", "g"):
            fail(f"{event}")
        if event["ph"] not in ("X", "i") or (event["pid"], event["tid"]) not in named:
            fail(f"{event}")
    lanes = {}
    for event in events:
        if event["ph"] == "X":
            lanes.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["dur"]))
    for lane, slices in lanes.items():
        slices.sort()
        for (start, length), (following, _) in zip(slices, slices[1:]):
            if start + length > following + 1e-6:
                fail(f"slices of lane {lane} overlap at {following}")
    print("perfetto:", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))


def jsonl(path):
    instructions = events = 0
    before = -1
    for entry in objects(path):
        if entry["instruction"] < before and "pc" in entry:
            fail(f"{entry} goes back")
        for key in ("instruction", "time", "partition"):
            if not isinstance(entry[key], int):
                fail(f"{entry}")
        if "event" in entry:
            events += 1
            if not all(re.fullmatch("0x[0-9a-f]+", value) for value in entry["values"].values()):
                fail(f"{entry}")
            continue
        instructions += 1
        before = entry["instruction"]
        code = bytes.fromhex(entry["code"])
        if not 1 <= len(code) <= 15 or not entry["text"] or entry["cpl"] not in (0, 1, 2, 3) or entry["mode"] not in ("16", "32", "64"):
            fail(f"{entry}")
        for access in entry.get("accesses", []):
            int(access["address"], 16)
            if access["bytes"] < 1 or not isinstance(access["write"], bool):
                fail(f"{entry}")
    print(f"jsonl: {instructions} instructions, {events} events")


def text(path, jsonl_path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    entries = objects(jsonl_path)
    if len(lines) != len(entries):
        fail(f"{len(lines)} lines, {len(entries)} objects")
    for line, entry in zip(lines, entries):
        words = line.split()
        if int(words[0]) != entry["instruction"] or int(words[1].replace(".", "")) != entry["time"]:
            fail(f"{line}\n{entry}")
        if "event" in entry:
            if words[3:5] != ["*", entry["event"]]:
                fail(f"{line}\n{entry}")
            continue
        if entry["code"] not in words or f"{int(entry['pc'], 16):016x}" not in words or entry["text"] not in line:
            fail(f"{line}\n{entry}")
        if line.count("  w ") + line.count("  r ") != len(entry.get("accesses", [])):
            fail(f"{line}\n{entry}")
    print(f"text: {len(lines)} lines")


def objdump(path):
    seen = {}
    for entry in objects(path):
        if "pc" in entry and entry["mode"] == "64":
            seen[entry["code"]] = entry
    chosen = sorted(seen)[:: max(1, len(seen) // 3000)]
    with tempfile.NamedTemporaryFile(suffix=".bin", delete=False) as file:
        # Each instruction in a slot of its own, the rest NOPs: a wrong length moves what follows.
        for code in chosen:
            file.write(bytes.fromhex(code).ljust(16, b"\x90"))
    out = subprocess.run(["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "--no-show-raw-insn", file.name],
                         capture_output=True, text=True, check=True).stdout
    os.unlink(file.name)
    by_offset = {}
    for line in out.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(.*)", line)
        if match:
            by_offset[int(match[1], 16)] = match[2].strip()
    other_names = {"movabs": "mov", "ret": "ret", "xchg": "nop", "pause": "pause", "cs": "nop", "data16": "nop", "nop": "nop", "nopw": "nop"}
    equal = 0
    for slot, code in enumerate(chosen):
        size = len(code) // 2
        offset = 16 * slot
        if offset not in by_offset or offset + size not in by_offset and size < 16:
            fail(f"{code}: another length than objdump's")
        theirs = by_offset[offset].split()[0]
        ours = seen[code]["text"].split()[0]
        equal += other_names.get(theirs, theirs) == other_names.get(ours, ours) or theirs[:3] == ours[:3]
    if equal < 0.9 * len(chosen):
        fail(f"only {equal} of {len(chosen)} mnemonics are objdump's")
    print(f"objdump: {len(chosen)} instructions, {equal} mnemonics equal")


if __name__ == "__main__":
    {"drcov": drcov, "tenet": tenet, "perfetto": perfetto, "jsonl": jsonl, "text": text, "objdump": objdump}[sys.argv[1]](*sys.argv[2:])
