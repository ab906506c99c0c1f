"""What the PTX test has kept of kernels and launches (tests/ptx), and how often a launch runs the loops of its kernel."""

import json
import math
import re
import struct
from pathlib import Path
from typing import NamedTuple

WINDOW, TILE = 11, 16  # of SSIM: pixels along a side of the window that the rows have, and of a block's tile


class Variant(NamedTuple):
    number: int
    name: str  # of its files
    kernel: str  # path of the Rust function, or the entry of a kernel in CUDA C++
    block: list
    shared: int  # bytes of dynamic shared memory of a block
    code: str  # CUDA C++

    def label(self):
        """`implicit_gemm`, or `ssim::map_kernel` of `hotad_kernels::ssim::map_kernel::MapKernel<...>`."""
        path = self.kernel.split("<")[0].split("::")
        return "::".join(path[1:-1]) or path[0]

    def threads(self):
        return math.prod(self.block)

    def macros(self):
        return dict(re.findall(r"^#define (\w+) (\S+)$", self.code, re.M))


class Launch(NamedTuple):
    variant: int
    grid: list
    buffers: list  # address and bytes of each
    info: list  # the last argument as words of 64 bits

    def blocks(self):
        return math.prod(self.grid)

    def bytes(self):
        return sum(dict(map(tuple, self.buffers)).values())


class Row(NamedTuple):
    work: str
    precision: str
    units: float
    launches: list

    def bytes(self):
        """Of all buffers, each once."""
        return sum({a: b for l in self.launches for a, b in sorted(l.buffers, key=lambda b: b[1])}.values())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def variants_of(folder, capability):
    """By number."""
    kept = [k for k in lines_of(folder / "kernels.jsonl") if k["capability"] == capability]
    read = lambda k: (folder / f"{k['name']}.cu").read_text()
    return {k["variant"]: Variant(k["variant"], k["name"], k["kernel"], k["block"], k["shared"], read(k)) for k in kept}


def rows_of(folder):
    of = lambda row: Row(row["work"], row["precision"], row["units"], [Launch(**l) for l in row["launches"]])
    return [of(row) for row in lines_of(folder / "launches.jsonl")]


def arguments(variant, launch):
    """Numbers of a kernel in CUDA C++ by their names: macros, constants, fields of the struct that is its last argument."""
    code = variant.code
    known = {name: int(value) for name, value in variant.macros().items() if value.isdigit()}
    for line in re.findall(r"^constexpr int ([^;]+);", code, re.M):
        known |= {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)(?=,|$)", line)}
    kind = re.search(r"const __grid_constant__ (\w+)", code)
    if not kind:
        return known
    body = re.search(r"struct %s \{(.*?)\n\};" % kind.group(1), code, re.S).group(1)
    data, at = struct.pack(f"<{len(launch.info)}Q", *launch.info), 0
    for line in re.findall(r"^\s*(int|unsigned|float|Division) ([^;]+);", body, re.M):
        for name in line[1].split(","):
            known[name.strip()] = struct.unpack_from("<f" if line[0] == "float" else "<i", data, at)[0]
            at += 8 if line[0] == "Division" else 4
    return known


class Trips(NamedTuple):
    """How often a warp runs the main loop, or for how many multiply-adds, and how often the loops around it run, from the
    innermost: each time that the next one does."""

    main: float
    around: list = []
    multiply_adds: float = 0.0


def ceil(a, b):
    return -(-a // b)


def convolution(a, _):
    warps = a["THREADS"] // 32
    taps = ceil(a["taps"], a["phases"])
    steps = ceil(taps * ceil(a["in_channels"], a["TERMS"]), a["splits"])
    terms = steps * a["TERMS"]
    if a["PRECISION"] == 0:  # whole steps are for tensor cores alone
        terms = taps * a["in_channels"] / a["splits"]
    return Trips(0, [steps], a["TILE"] ** 2 * terms / warps)


def weight_gradient(a, _):
    steps = ceil(a["per_split"], a["TERMS"])
    return Trips(0, [steps], a["TILE"] ** 2 * a["TERMS"] * steps / (a["THREADS"] // 32))


def least_of_groups(a, _):
    products = 16 * a["ROWS"] * 16 * a["COLUMNS"] * 16 * a["pieces"]
    return Trips(0, [], products / a["WARPS"])


def nearest_cosine(a, _):
    width = 8 if a["HALF"] else 4
    entries = ceil(a["per_split"], a["THREADS"] // a["LANES"] * a["UNROLL"])
    return Trips(ceil(a["DIM"], a["LANES"] * width), [entries, (2 * a["reach"] + 1) ** 2])


def halves_of_rows(a, _):
    return Trips(ceil(a["pieces"], a["WARPS"]))


def depthwise(_, launch):
    """Kernels of a bias are square: as many taps as weights for each bias. Four taps of a row are an iteration."""
    weights, bias = launch.buffers[1], launch.buffers[2]
    side = math.isqrt(weights[1] // bias[1])
    return Trips(side // 4, [side]) if weights != bias else None


def decompose_steps(a, _):
    """Every loop within a step is of one trip: 252, 182 and 208 groups by 256 threads."""
    return Trips(a["steps"])


def times(count):
    return lambda *_: Trips(count)


# Groups of four means along the rows of a tile and its surroundings, by 64 threads; sums of the adjoint by 256.
MOMENTS = times(ceil((TILE - 1 + WINDOW) * (TILE // 4), 64))
ADJOINT = times(ceil((TILE - 1 + WINDOW) * TILE, 256))

TRIPS = {
    "implicit_gemm": convolution,
    "weight_gradient": weight_gradient,
    "least_of_groups": least_of_groups,
    "halves_of_rows": halves_of_rows,
    "nearest_cosine": nearest_cosine,
    "conv::depthwise::gpu::depthwise_kernel": depthwise,
    "ssim::gpu::map::ssim_map_kernel": MOMENTS,
    "ssim::gpu::gradient::slopes_kernel": MOMENTS,
    "ssim::gpu::gradient::gradient_kernel": ADJOINT,
    "decompose::kernels::known_kernel": MOMENTS,
    "decompose::kernels::descend_kernel": times(1),  # 252, 182 and 104 groups by 256 threads
    "decompose_steps": decompose_steps,
    "ciede2000::delta_e_rgb_kernel": times(0),  # its loops reduce angles far beyond a turn
}


def trips_of(variant, launch, kernel):
    """Trips of the main loop and of those around it, from the innermost; none where they are not known."""
    if not kernel.loops:
        return []
    known = TRIPS.get(variant.label(), lambda *_: None)
    try:
        trips = known(arguments(variant, launch), launch)
    except KeyError:  # the kernel has other arguments by now
        return None
    around = kernel.around()
    if trips is None or len(around) - 1 > len(trips.around) or trips.multiply_adds and not kernel.multiply_adds():
        return None
    outer = trips.around[: len(around) - 1]
    if trips.multiply_adds:
        return [trips.multiply_adds / kernel.multiply_adds() / math.prod(outer), *outer]
    return [trips.main, *outer]
