"""Bank conflicts of shared memory, told from PTX.

The addresses of the 32 lanes of a block's first warp are computed from their thread indices, as they are when each loop is
first entered. What comes from arguments is taken to be one number, then another: what depends on it is not told, nor is what
comes from memory or other lanes. An access of 4 bytes is made by a warp at once, of 8 by half a warp, of 16 by a quarter; it
conflicts n-way where n different words lie in one of the 32 banks.
"""

import re
from typing import NamedTuple

from .flow import Code, Function, Instruction

LINE = re.compile(r"^\s*(?:@(!?%p\d+)\s+)?([a-z][\w.:]*)\s*([^;]*);")
LABEL = re.compile(r"^(\$L\w+):")
ADDRESS = re.compile(r"\[([%\w]+)(?:\+(-?\d+))?\]")
SHARED_ARRAY = re.compile(r"\.shared (?:\.align \d+ )?\.\w+ (\w+)\[")
SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
LANES = 32
MASK = {32: 0xFFFFFFFF, 64: 0xFFFFFFFFFFFFFFFF}


def parse(text):
    """The first function of a PTX file."""
    instructions, labels = [], {}
    body = re.split(r"\.entry|\.func", text[text.index(".entry") + 6 :])[0]
    for line in body[body.index("\n{") :].splitlines():
        if label := LABEL.match(line):
            labels[label.group(1)] = len(instructions)
        elif (found := LINE.match(line)) and not found.group(2).startswith("."):
            instructions.append(Instruction(found.group(1) or "", found.group(2), found.group(3)))
    return Code(instructions, labels)


def jumps(code):
    """For flow.py."""

    def at(place):
        guard, op, operands = code.instructions[place]
        if op in ("ret", "exit", "trap"):
            return (None, bool(guard))
        return (code.labels[operands.strip()], bool(guard)) if op.startswith("bra") else None

    return at


def multiply_adds(op):
    """As in sass.py."""
    if op.startswith(("fma.rn.f32", "fma.rn.ftz.f32")):
        return 32
    if found := re.match(r"(?:wmma\.)?mma\.sync.*m(\d+)n(\d+)k(\d+)", op):
        m, n, k = map(int, found.groups())
        return m * n * k
    return 0


def access_size(op):
    """Bytes of a thread's access of shared memory; 0 for other instructions."""
    if op.startswith("cp.async.c") and ".shared" in op and "group" not in op:
        return 16
    if not op.startswith(("ld.shared", "st.shared")):
        return 0
    vector = re.search(r"\.v(\d)", op)
    return int(vector.group(1) if vector else 1) * SIZES[re.search(r"(\d+)$", op).group(1)]


class Access(NamedTuple):
    place: int
    op: str
    ways: int  # of its conflict; 0 where it is not told
    wavefronts: int  # cycles that shared memory takes for it at least


def ways_of(words, lanes):
    """Most different words in a bank for as many lanes at a time."""
    most = 1
    for first in range(0, LANES, lanes):
        banks = {}
        for own in words[first : first + lanes]:
            for word in own:
                banks.setdefault(word % 32, set()).add(word)
        most = max(most, *(len(b) for b in banks.values()))
    return most


def access(place, op, size, address):
    """An access by lanes at these addresses, none for those that are not told."""
    if address is None:
        return Access(place, op, 0, 1)
    spread = [address] * LANES if isinstance(address, int) else address
    words = [range(a // 4, (a + size + 3) // 4) for a in spread]
    return Access(place, op, ways_of(words, LANES * 4 // max(4, size)), ways_of(words, LANES))


def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value


def quotient(a, b):
    """As C divides."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


COMPARISONS = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "lo": lambda a, b: a < b, "ls": lambda a, b: a <= b,
    "hi": lambda a, b: a > b, "hs": lambda a, b: a >= b,
}  # fmt: skip
OPERATIONS = {
    "mov": lambda a: a, "cvt": lambda a: a, "cvta": lambda a: a, "not": lambda a: ~a, "neg": lambda a: -a, "abs": abs,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "mad": lambda a, b, c: a * b + c,
    "shl": lambda a, b: a << min(b, 64), "shr": lambda a, b: a >> min(b, 64),
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "min": min, "max": max, "div": quotient, "rem": lambda a, b: a - quotient(a, b) * b,
    "selp": lambda a, b, p: a if p else b,
    "bfi": lambda a, b, c, d: b & ~((1 << d) - 1 << c) | (a & (1 << d) - 1) << c,
}  # fmt: skip


def operation(op):
    """The function of an instruction on whole numbers and what its result is cut to; none for others."""
    parts = op.split(".")
    name, kind = parts[0], parts[-1]
    bits = 1 if kind == "pred" else int(kind[1:]) if kind[0] in "subpred" and kind[1:].isdigit() else 0
    if not bits or kind[0] == "f" or any(p[0] == "f" and p[1:].isdigit() for p in parts):
        return None
    if name == "setp":
        compare = COMPARISONS.get(parts[1])
        return compare and (compare, bits, kind[0] == "s", 1)
    if name not in OPERATIONS:
        return None
    wide = "wide" in parts or name == "cvt"
    result = int(parts[1][1:]) if name == "cvt" and parts[1][1:].isdigit() else 64 if wide else bits
    function = OPERATIONS[name]
    if "hi" in parts:
        function = {"mul": lambda a, b: a * b >> bits, "mad": lambda a, b, c: (a * b >> bits) + c}.get(name)
    return function and (function, bits, kind[0] == "s", result)


class Lanes:
    """Registers of a warp: a number, one for each lane, or none where it is not told. A register that is written more than
    once keeps what is written first."""

    def __init__(self, block, argument, arrays):
        self.argument = argument
        self.values = {name: 0 for name in arrays}
        x, y, _ = block
        index = [(i % x, i // x % y, i // (x * y)) for i in range(LANES)]
        for axis, name in enumerate("xyz"):
            lanes = [i[axis] for i in index]
            self.values[f"%tid.{name}"] = lanes[0] if len(set(lanes)) == 1 else lanes
            self.values |= {f"%ntid.{name}": block[axis], f"%ctaid.{name}": 0, f"%nctaid.{name}": argument if axis == 0 else 1}

    def value(self, operand):
        if re.fullmatch(r"-?\d+", operand):
            return int(operand)
        return self.values.get(operand)

    def run(self, op, operands):
        """Sets the register that an instruction writes."""
        to, *inputs = [o.strip() for o in operands.split(",")]
        if not to.startswith("%") or to in self.values:
            return
        if op.startswith("ld.param"):
            self.values[to] = self.argument if op[-3] in "sub" else None
            return
        made = operation(op)
        given = [self.value(i) for i in inputs]
        self.values[to] = self.apply(*made, given) if made and None not in given else None

    def apply(self, function, bits, is_signed, result, given):
        cut = MASK.get(result, (1 << result) - 1)
        read = (lambda v: signed(v & MASK[bits], bits) if is_signed else v & MASK[bits]) if bits in MASK else int
        one = lambda *v: int(function(*map(read, v))) & cut
        if all(isinstance(g, int) for g in given):
            return one(*given)
        return [one(*v) for v in zip(*(g if isinstance(g, list) else [g] * LANES for g in given))]


def accesses_for(code, block, argument, arrays):
    """All accesses of shared memory, with what comes from arguments taken to be this number."""
    lanes, found = Lanes(block, argument, arrays), []
    for place, (_, op, operands) in enumerate(code.instructions):
        if size := access_size(op):
            base, offset = ADDRESS.search(operands).groups()
            address = lanes.value(base)
            add = lambda a: a + int(offset or 0)
            if address is not None:
                address = add(address) if isinstance(address, int) else [add(a) for a in address]
            found.append(access(place, op, size, address))
        elif operands:
            lanes.run(op, operands)
    return found


class Shared(Function):
    """Accesses of shared memory of a variant."""

    def __init__(self, text, block):
        code = parse(text)
        super().__init__(code, jumps(code), multiply_adds)
        arrays = SHARED_ARRAY.findall(text)
        one, other = (accesses_for(code, block, argument, arrays) for argument in (1 << 10, 1332))
        self.accesses = [a if a == b else Access(a.place, a.op, 0, 1) for a, b in zip(one, other)]

    def in_main_loop(self):
        return [a for a in self.accesses if a.place in self.main_places()]

    def wavefronts(self, trips):
        """Cycles of shared memory that a warp needs."""
        times = self.times(trips)
        return sum(a.wavefronts * times.get(a.place, 0) for a in self.accesses)
