"""The table of figures from the records of a measurement."""
import json
import math
import statistics

from figures import workloads

MEASURES = ("wall", "cpu")


class Figures:
    """Records of one or more measurements, by what they are about."""

    def __init__(self, paths):
        self.work, self.boots, self.runs, self.text, self.environment = {}, {}, {}, [], {}
        for path in paths:
            with open(path) as file:
                for line in file:
                    self._add(json.loads(line))

    def _add(self, record):
        kind = record["kind"]
        if kind == "work":
            self.work.setdefault(record["name"], {}).setdefault(record["backend"], []).append(record)
        elif kind == "boot":
            self.boots.setdefault(record["backend"], []).append(record)
        elif kind == "run":
            self.runs.setdefault(record["backend"], []).append(record)
        elif kind == "environment":
            self.environment = record

    def backends(self):
        """In the order of the measurement."""
        names = []
        for by_backend in self.work.values():
            names += [name for name in by_backend if name not in names]
        return names + [name for name in self.boots if name not in names]

    def median(self, name, backend, measure):
        """Of the repetitions that ended well; None without one."""
        records = [r for r in self.work.get(name, {}).get(backend, []) if r.get("rc") == 0]
        values = [r[measure] for r in records if r.get(measure) is not None]
        return statistics.median(values) if values else None

    def ratio(self, name, slow, fast, measure):
        a, b = self.median(name, slow, measure), self.median(name, fast, measure)
        return a / b if a and b else None

    def boot_median(self, backend, measure):
        values = [r[measure] for r in self.boots.get(backend, []) if r.get(measure)]
        return statistics.median(values) if values else None


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def problems(figures):
    """Outputs that differ between back-ends and workloads that did not end well, one line each."""
    found = []
    for row in workloads.table():
        by_backend = figures.work.get(row["name"], {})
        for backend, records in by_backend.items():
            for record in records:
                if record.get("rc") != 0 or record.get("wall") is None:
                    why = f"exit code {record['rc']}" if record.get("rc") is not None else record.get("killed") or "it did not end"
                    found.append(f"FAILED {row['name']} on {backend}: {why}")
        outputs = {backend: {r["out"] for r in records if r.get("rc") == 0 and "out" in r} for backend, records in by_backend.items()}
        if row["check"] == "hash" and len(set().union(*outputs.values(), set())) > 1:
            found.append(f"OUTPUT DIFFERS {row['name']}: " +
                         ", ".join(f"{backend} {' '.join(sorted(out))}" for backend, out in outputs.items()))
    for backend, records in figures.boots.items():
        found += [f"FAILED boot on {backend}: {r.get('killed') or 'no userspace'}" for r in records if r.get("wall") is None]
    return sorted(set(found))


def layout(head, rows, markdown):
    if markdown:
        return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]
    widths = [max(len(row[k]) for row in [head] + rows) for k in range(len(head))]
    return ["  ".join(cell.ljust(width) if k < 2 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in [head] + rows]


def workload_rows(figures, emulators):
    """A line per workload: seconds, then each emulator against native and against QEMU, in wall and in CPU time."""
    head = ["workload", "class", "native s"]
    for name in emulators:
        head += [f"{name} s", "CPU s", "/native", "CPU"] + (["QEMU/", "CPU", "Minsn/s"] if name != "qemu" else [])
    rows = []
    for row in workloads.table():
        name = row["name"]
        if name not in figures.work:
            continue
        cells = [name, row["class"], number(figures.median(name, "native", "wall"), 3)]
        for emulator in emulators:
            cells += [number(figures.median(name, emulator, measure), 2) for measure in MEASURES]
            cells += [number(figures.ratio(name, emulator, "native", measure), 1) for measure in MEASURES]
            if emulator != "qemu":
                cells += [number(figures.ratio(name, "qemu", emulator, measure)) for measure in MEASURES]
                guest, cpu = figures.median(name, emulator, "guest"), figures.median(name, emulator, "cpu")
                cells.append(number(guest * 1000 / cpu if guest and cpu else None, 0))
        rows.append(cells)
    return head, rows


def mean_rows(figures, emulators):
    """Geometric means by class."""
    head = ["geometric mean", "of"]
    pairs = []
    for name in emulators:
        pairs.append((name, "native", f"{name}/native"))
        if name != "qemu" and "qemu" in figures.backends():
            pairs.append(("qemu", name, f"qemu/{name}"))
    for _, _, title in pairs:
        head += [title, "CPU"]
    rows = []
    for kind in [*workloads.CLASSES, "all"]:
        names = [row["name"] for row in workloads.table() if kind in (row["class"], "all") and row["class"] in workloads.CLASSES]
        names = [name for name in names if name in figures.work]
        if not names:
            continue
        cells = [workloads.CLASSES.get(kind, "all"), str(len(names))]
        for slow, fast, _ in pairs:
            for measure in MEASURES:
                values = [figures.ratio(name, slow, fast, measure) for name in names]
                cells.append(number(geomean([value for value in values if value])))
        rows.append(cells)
    return head, rows


def worst_lines(figures, emulators):
    lines = []
    names = [row["name"] for row in workloads.table() if row["class"] in workloads.CLASSES and row["name"] in figures.work]
    for emulator in emulators:
        if emulator == "qemu":
            continue
        for slow, fast, text, choose in ((emulator, "native", "times native's time", max), ("qemu", emulator, "times QEMU's speed", min)):
            for measure in MEASURES:
                ratios = [(value, name) for name in names if (value := figures.ratio(name, slow, fast, measure))]
                if ratios:
                    value, name = choose(ratios)
                    lines.append(f"worst workload of {emulator}: {name}, {value:.2f} {text} ({measure})")
    return lines


def boot_rows(figures):
    head = ["boot to userspace", "runs", "wall s", "CPU s", "of QEMU's wall", "of its CPU", "peak MiB"]
    rows = []
    for backend, records in figures.boots.items():
        medians = {measure: figures.boot_median(backend, measure) for measure in MEASURES}
        base = {measure: figures.boot_median("qemu", measure) for measure in MEASURES}
        peak = max((r["peak_mib"] for r in records), default=None)
        rows.append([backend, str(len(records)), *(number(medians[m]) for m in MEASURES),
                     *(number(medians[m] / base[m] if medians[m] and base[m] else None) for m in MEASURES), number(peak, 0)])
    return head, rows


def text(figures, markdown=False):
    """Everything, as lines."""
    emulators = [name for name in figures.backends() if name != "native"]
    lines = []
    if figures.work:
        lines += layout(*workload_rows(figures, emulators), markdown)
        lines += ["", *layout(*mean_rows(figures, emulators), markdown), "", *worst_lines(figures, emulators)]
    if figures.boots:
        lines += ["", *layout(*boot_rows(figures), markdown)]
    peaks = [f"{name} {max(r['peak_mib'] for r in records):.0f} MiB" for name, records in figures.runs.items() if name != "native"]
    if peaks:
        lines += ["", "peak memory in workload runs (guest of 2 GiB): " + ", ".join(peaks)]
    found = problems(figures)
    return lines + ([""] + found if found else [])
