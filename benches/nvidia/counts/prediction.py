"""The time that a launch takes at least by what its instructions and bytes need of an H100 SXM.

A launch of B blocks of W warps takes no less than the largest of

    issue    ceil(B / SMS) W instructions / (4 CLOCK)
    tensor   ceil(B / SMS) W cycles of HMMA / (4 CLOCK)
    shared   ceil(B / SMS) W cycles of shared memory and first-level cache / CLOCK
    L2       bytes / L2
    HBM      bytes / HBM

Instructions are those of a warp: each one in no loop once, both ways of a branch; those of the main loop and of the loops
around it as often as launches.py derives from the launch's shape; those of other loops once. Cycles of shared memory are
those that ptx.py tells, one for an access that it does not; of global memory one for each 128 bytes that a load or store
moves. Bytes are those of the launch's buffers, each once; in L2 those of asynchronous copies where these are more. HBM counts
where the buffers of a whole call are larger than the L2 cache: benches repeat a call, and what fits stays there. Nothing is
said of latency, of the time between launches, or of how evenly blocks end.
"""

import math
from collections import Counter
from typing import NamedTuple

from . import sass
from .launches import trips_of

SMS, CLOCK = 132, 1.755e9
L2, HBM = 5.5e12, 3.35e12  # bytes a second: assumed; the datasheet's
CACHE = 50e6  # bytes of L2
WARPS, REGISTERS, SHARED, BLOCKS = 64, 65536, 233472, 32  # of a multiprocessor
TENSOR_CYCLES = 4  # m16n8k16 of halves and m16n8k8 of tf32, at the datasheet's rate


def occupancy(registers, threads, shared):
    """Share of a multiprocessor's warps that blocks fill: registers are given to a warp by 256 in a quarter of the
    multiprocessor, shared memory by 128 bytes, of which a block has 1,024 for itself."""
    warps = -(-threads // 32)
    of_warp = -(-registers * 32 // 256) * 256
    by_registers = REGISTERS // 4 // of_warp * 4 // warps
    by_shared = SHARED // (-(-(shared + 1024) // 128) * 128)
    return min(BLOCKS, WARPS // warps, by_registers, by_shared) * warps / WARPS


class Limits(NamedTuple):
    """Seconds."""

    issue: float
    tensor: float
    shared: float
    l2: float
    hbm: float


def limits(variant, kernel, shared, launch, fits):
    """Of a launch; none where trips of its loops are not known. `fits`: whether the call's buffers fit into L2."""
    trips, of_ptx = trips_of(variant, launch, kernel), trips_of(variant, launch, shared)
    if trips is None:
        return None
    of_block = math.ceil(variant.threads() / 32)
    busiest, all_warps = math.ceil(launch.blocks() / SMS) * of_block, launch.blocks() * of_block
    counts = Counter()
    for place, times in kernel.times(trips).items():
        counts[kernel.code.instructions[place].op] += times
    total = lambda take, weigh: sum(n * weigh(op) for op, n in counts.items() if take(op))
    copies = total(lambda op: op.startswith("LDGSTS"), lambda op: 32 * sass.width(op))
    first_level = total(lambda op: sass.is_global(op) and not op.startswith("LDGSTS"), lambda op: max(1, sass.width(op) / 4))
    in_shared = total(sass.is_shared, lambda _: 1) if of_ptx is None else shared.wavefronts(of_ptx)
    moved = launch.bytes()
    return Limits(
        busiest * sum(counts.values()) / (4 * CLOCK),
        busiest * total(lambda op: op.startswith("HMMA"), lambda _: TENSOR_CYCLES) / (4 * CLOCK),
        busiest * (first_level + in_shared) / CLOCK,
        max(moved, copies * all_warps) / L2,
        0.0 if fits else moved / HBM,
    )
