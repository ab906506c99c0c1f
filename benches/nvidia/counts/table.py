"""The table of counts and predictions."""

import re
from collections import Counter
from typing import NamedTuple

from . import prediction
from .launches import Variant
from .ptx import Shared
from .sass import Kernel

PRECISIONS = ["f32", "tf32", "f16", "bf16"]
LEAST_OCCUPANCY, MOST_SLOTS, MOST_WAYS = 0.37, 12, 2


class Counts:
    """Of one variant."""

    def __init__(self, variant, log, kernel, shared):
        self.variant, self.kernel, self.shared = variant, kernel, shared
        self.registers = int(re.search(r"Used (\d+) registers", log).group(1))
        self.spills = sum(map(int, re.findall(r"(\d+) bytes spill", log)))
        static = re.search(r"(\d+) bytes smem", log)
        self.bytes_shared = variant.shared + (int(static.group(1)) if static else 0)
        self.occupancy = prediction.occupancy(self.registers, variant.threads(), self.bytes_shared)
        self.divisions = kernel.divisions_in_loops()
        self.slots = kernel.slots_per_product()
        self.main = kernel.counts(kernel.main_places())
        told = [a.ways for a in shared.in_main_loop()]
        self.ways, self.untold = max(told, default=0), told.count(0)

    def name(self):
        """With the precision, where the kernel has one."""
        precision = self.variant.macros().get("PRECISION")
        return self.variant.label() + (f", {PRECISIONS[int(precision)]}" if precision else "")

    def uses_tensor_cores(self):
        return any(op.startswith("HMMA") for op in self.main["products"])


def span(values, show=str):
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low}-{high}"


def percent(*shares):
    return span(shares, lambda share: f"{100 * share:.0f}") + " %"


def listed(counter):
    return ", ".join(f"{n} {op}" for op, n in sorted(counter.items())) or "-"


def conflict(counts):
    if not counts.ways and not counts.untold:
        return "-"
    told = f"{counts.ways}-way" if counts.ways else ""
    untold = f"{counts.untold} not told" if counts.untold else ""
    return "; ".join(filter(None, [told, untold]))


def groups(counts):
    """Variants of a kernel, by its name."""
    found = {}
    for c in counts:
        found.setdefault(c.name(), []).append(c)
    return sorted(found.items())


def row(name, variants):
    """A line for the variants of a kernel; its loop is that of the variant with the most instructions there."""
    worst = max(variants, key=lambda c: (c.slots or 0, c.main["all"]))
    main = worst.main
    return [
        name,
        len(variants),
        span([c.registers for c in variants]),
        span([c.bytes_shared for c in variants]),
        span([c.variant.threads() for c in variants]),
        percent(*(c.occupancy for c in variants)),
        span([c.spills for c in variants]),
        f"{main['all']}" if worst.kernel.main_loop else f"{main['all']}, no loop",
        listed(main["products"]),
        f"{worst.slots:.1f}" if worst.slots and worst.kernel.main_loop else "-",
        main["integer"],
        listed(main["shared"]),
        conflict(max(variants, key=lambda c: c.ways)),
        listed(main["global"]),
        max(c.divisions for c in variants),
    ]


def markdown(head, rows):
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, ["---"] * len(head), *rows])


HEAD = (
    "kernel,variants,registers,shared bytes,threads,occupancy,bytes spilled,instructions of the main loop,products,"
    "slots per product,integer and moves,shared memory,conflicts,global memory,integer divisions in loops"
).split(",")


def faults(counts):
    """What `--check` refuses, a line each."""
    lines = []
    for name, g in groups(counts):
        spilled = [c.spills for c in g if c.spills]
        divided = [c.divisions for c in g if c.divisions]
        if spilled:
            lines.append(f"{name}: {span(spilled)} bytes spilled in {len(spilled)} of {len(g)} variants")
        if divided:
            lines.append(f"{name}: {span(divided)} integer divisions in {len(divided)} of {len(g)} variants")
    return lines


def beyond(counts):
    """What else is beyond the goals, a line each."""
    lines = []
    for name, g in groups(counts):
        tensor = [c for c in g if c.uses_tensor_cores()]
        low = [c.occupancy for c in tensor if c.occupancy < LEAST_OCCUPANCY]
        slow = [c.slots for c in tensor if c.slots > MOST_SLOTS]
        ways = [c.ways for c in g if c.ways > MOST_WAYS and c.kernel.main_loop]
        if low:
            lines.append(f"{name}: occupancy {percent(*low)} in {len(low)} of {len(g)} variants")
        if slow:
            lines.append(f"{name}: {span(slow, '{:.1f}'.format)} slots per HMMA in {len(slow)} of {len(g)} variants")
        if ways:
            lines.append(f"{name}: {max(ways)}-way bank conflicts in {len(ways)} of {len(g)} variants")
    return lines


class Measured(NamedTuple):
    """A time in milliseconds, and the day of the table that it is from."""

    ms: float
    day: str


def measured_times(files):
    """By title and precision; from the first file that has a row."""
    found = {}
    for file in files:
        precision = None
        for line in file.read_text().splitlines():
            if heading := re.match(r"## (\S+)", line):
                precision = heading.group(1) if heading.group(1) in PRECISIONS else None
            time = re.match(r"\| ([^|]+) \| ([\d.]+) ms \|", line)
            if time and precision:
                title = time.group(1).replace("`", "")
                found.setdefault((title, precision), Measured(float(time.group(2)), file.name[:10]))
    return found


def predicted(row_, counts):
    """Limits of a row's launches, milliseconds of a unit; kernels that are left out, with their launches."""
    fits = row_.bytes() <= prediction.CACHE
    sums, left_out, total = [0.0] * len(prediction.Limits._fields), Counter(), 0.0
    for launch in row_.launches:
        c = counts[launch.variant]
        found = prediction.limits(c.variant, c.kernel, c.shared, launch, fits)
        if found is None:
            left_out[c.name().split("::")[-1]] += 1
            continue
        sums = [a + b for a, b in zip(sums, found)]
        total += max(found)
    scale = 1e3 / row_.units
    return [s * scale for s in sums], total * scale, left_out


def prediction_row(row_, counts, measured):
    """None where nothing is predicted."""
    sums, total, left_out = predicted(row_, counts)
    if not total:
        return None
    known = measured.get((row_.work, row_.precision))
    ratio = f"{known.ms / total:.1f}" if known and not left_out else "-"
    return [
        row_.work,
        row_.precision,
        f"{len(row_.launches) / row_.units:.0f}",
        *(f"{s:.4f}" for s in sums),
        f"{total:.4f}",
        f"{known.ms:.3f} ({known.day})" if known else "-",
        ratio,
        ", ".join(f"{n} {name}" for name, n in sorted(left_out.items())) or "-",
    ]


PREDICTED = ["work", "precision", "launches", *prediction.Limits._fields, "predicted", "H200", "H200 / predicted", "left out"]


def predictions(rows, counts, measured):
    found = [prediction_row(r, counts, measured) for r in rows if r.launches]
    return markdown(PREDICTED, [line for line in found if line])


def items(lines):
    return "\n".join(f"- {line}" for line in lines) or "- nothing"


def text(counts, rows, results, version):
    """The whole file. `counts` by variant, `results` the tables that were measured on a GPU, the newest first."""
    every = counts.values()
    lines = [row(name, g) for name, g in groups(every)]
    return f"""# What the kernels are compiled to for sm_90

Made by `benches/nvidia/static` from PTX of NVRTC and SASS of ptxas {version}; nothing was run. [Devices](../../docs/devices.md)
says how to read it. {len(counts)} variants of {len(lines)} kernels.

## Beyond the goals

No spills, no integer division in an innermost or the main loop:

{items(faults(every))}

Tensor cores at {percent(LEAST_OCCUPANCY)} occupancy or more, at most {MOST_SLOTS} issue slots for each HMMA, no bank conflict above
{MOST_WAYS}-way in a main loop:

{items(beyond(every))}

## Counts

{markdown(HEAD, lines)}

## Predictions

Milliseconds of an H100 SXM, the limits and the sum of each launch's largest, beside what an H200 took on a day, with the kernels of
then; its memory is 1.4 times as fast, its clock up to 1.13 times. Kernels that are left out are in no sum, and the row has no ratio.

{predictions(rows, counts, measured_times(results))}
"""
