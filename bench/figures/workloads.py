"""The table of workloads: bench/guest/workloads.tsv, which the guest's init reads too."""
import os

CLASSES = {"int": "integer", "fp": "FP and SIMD", "mem": "memory", "os": "kernel-bound"}
GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")


def table():
    """Rows in the order in which the guest runs them: name, class, check (hash, rc or text)."""
    rows = []
    with open(os.path.join(GUEST, "workloads.tsv")) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, kind, check, _ = line.rstrip("\n").split("\t", 3)
                rows.append({"name": name, "class": kind, "check": check})
    return rows


def select(only, skip):
    """Rows that the user asked for. Class `info` is in no mean and runs only when named. Raises ValueError with the
    unknown word."""
    rows = table()
    known = {row["name"] for row in rows} | {"class:" + row["class"] for row in rows}
    for word in only + skip:
        if word not in known:
            raise ValueError(f"'{word}' is no workload; there are: {', '.join(sorted(known))}")

    def named(row, words):
        return row["name"] in words or "class:" + row["class"] in words
    wanted = [row for row in rows if (named(row, only) if only else row["class"] != "info")]
    return [row for row in wanted if not named(row, skip)]
