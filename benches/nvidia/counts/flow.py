"""Instructions of a function, the graph of its jumps and its loops; of PTX and SASS alike."""

from typing import NamedTuple


class Instruction(NamedTuple):
    guard: str  # predicate, "" for none
    op: str  # such as LDS.128 or ld.shared.v4.f32
    operands: str


class Code(NamedTuple):
    instructions: list
    labels: dict  # name to the place of the instruction behind it


class Loop:
    """A natural loop: the instructions that reach a jump back to `header` without passing it."""

    def __init__(self, header, places):
        self.header = header
        self.places = places
        self.parent = None
        self.children = []

    def own(self):
        """Places in no inner loop."""
        return self.places - frozenset().union(*(child.places for child in self.children))


def blocks_of(code, jumps):
    """Basic blocks: [(first, end, successors)], where jumps(place) is (target or None, whether control also falls through)."""
    count = len(code.instructions)
    ends = {i + 1: jumps(i) for i in range(count) if jumps(i) is not None}
    starts = sorted({0, *(p for p in code.labels.values() if p < count), *(p for p in ends if p < count)})
    number = {start: n for n, start in enumerate(starts)}
    blocks = []
    for n, start in enumerate(starts):
        end = starts[n + 1] if n + 1 < len(starts) else count
        target, falls = ends.get(end, (None, True))
        successors = [number[target]] if target in number else []
        if falls and end in number:
            successors.append(number[end])
        blocks.append((start, end, successors))
    return blocks


def dominators(blocks):
    """For each block the set of blocks, as bits, on every way to it; 0 where there is no way."""
    before = [[] for _ in blocks]
    for n, (_, _, successors) in enumerate(blocks):
        for s in successors:
            before[s].append(n)
    dominates = [0] * len(blocks)
    dominates[0] = 1
    changed = True
    while changed:
        changed = False
        for n in range(1, len(blocks)):
            known = [dominates[b] for b in before[n] if dominates[b]]
            if not known:
                continue
            common = known[0]
            for bits in known[1:]:
                common &= bits
            changed |= dominates[n] != common | 1 << n
            dominates[n] = common | 1 << n
    return dominates, before


def loops_of(blocks, dominates, before):
    """All natural loops, each with its parent and children."""
    bodies = {}
    for n, (_, _, successors) in enumerate(blocks):
        for header in successors:
            if dominates[n] >> header & 1:
                body = bodies.setdefault(header, {header})
                ways = [n]
                while ways:
                    block = ways.pop()
                    if block not in body:
                        body.add(block)
                        ways += [b for b in before[block] if dominates[b]]
    loops = [
        Loop(blocks[header][0], frozenset(p for b in body for p in range(blocks[b][0], blocks[b][1])))
        for header, body in bodies.items()
    ]
    for loop in loops:
        around = [other for other in loops if other is not loop and loop.header in other.places]
        loop.parent = min(around, key=lambda other: len(other.places), default=None)
        if loop.parent:
            loop.parent.children.append(loop)
    return loops


class Function:
    """Code with its loops. `products` tells the multiply-adds that an instruction makes for a warp."""

    def __init__(self, code, jumps, products):
        blocks = blocks_of(code, jumps)
        dominates, before = dominators(blocks)
        self.code = code
        self.products = products
        self.loops = loops_of(blocks, dominates, before)
        self.places = frozenset(p for bits, (a, b, _) in zip(dominates, blocks) if bits for p in range(a, b))
        self.main_loop = self.find_main_loop()

    def ops(self, places):
        return [self.code.instructions[p].op for p in sorted(places)]

    def innermost(self):
        return [loop for loop in self.loops if not loop.children]

    def multiply_adds_of(self, loop):
        """Those of a warp in an iteration, without inner loops."""
        return sum(map(self.products, self.ops(loop.own())))

    def find_main_loop(self):
        """The loop with the most multiply-adds of its own; without any the longest innermost one; none without loops."""
        busiest = max(self.loops, key=self.multiply_adds_of, default=None)
        if busiest and self.multiply_adds_of(busiest):
            return busiest
        return max(self.innermost(), key=lambda loop: len(loop.places), default=None)

    def main_places(self):
        """Of the main loop; without one all."""
        return self.main_loop.places if self.main_loop else self.places

    def multiply_adds(self):
        """Those of a warp in an iteration of the main loop."""
        return self.multiply_adds_of(self.main_loop)

    def around(self):
        """The main loop and those around it, from the innermost."""
        loops, loop = [], self.main_loop
        while loop:
            loops.append(loop)
            loop = loop.parent
        return loops

    def times(self, trips):
        """How often a warp executes the instruction of each place. `trips` are those of the main loop and of the loops around
        it, from the innermost, each time that the next one runs; what is in no loop, or in another one, counts once."""
        times = dict.fromkeys(self.places, 1)
        factor = 1
        for loop, count in reversed(list(zip(self.around(), trips))):
            factor *= count
            times.update(dict.fromkeys(loop.places, factor))
        return times
