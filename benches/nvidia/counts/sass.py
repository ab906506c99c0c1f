"""What is counted in SASS, the machine code of a kernel as nvdisasm prints it."""

import re
from collections import Counter

from .flow import Code, Function, Instruction

INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_\w+|\$\w+):")
TARGET = re.compile(r"`\((\.L_\w+)\)")

MOVES_AND_INTEGERS = frozenset(
    "IMAD IADD IADD3 VIADD VIADDMNMX IMNMX VIMNMX LEA LOP3 LOP SHF SHL SHR ISETP PLOP3 PRMT SEL IABS POPC FLO BREV BMSK SGXT "
    "MOV CS2R S2R S2UR R2UR R2P P2R LDC ULDC UMOV UIADD3 UIMAD ULEA ULOP3 USHF UISETP USEL UPLOP3 UPRMT UFLO UPOPC I2I".split()
)
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def parse(text):
    """The first function of a listing."""
    instructions, labels = [], {}
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label.group(1)] = len(instructions)
        elif found := INSTRUCTION.search(line):
            guard, op, operands = found.groups()
            # A load with the guard !PT is never made; it waits and takes its slot.
            instructions.append(Instruction(guard or "", "NOP" if guard == "!PT" else op, operands.strip()))
    return Code(instructions, labels)


def jumps(code):
    """For flow.py. What threads that have diverged do one by one (BRA.DIV) is left out, and so are functions that are called."""

    def at(place):
        guard, op, operands = code.instructions[place]
        kind = op.split(".")[0]
        if kind in ("EXIT", "RET", "BRX", "KILL"):
            return (None, bool(guard))
        if kind != "BRA" or ".DIV" in op:
            return None
        target = TARGET.search(operands)
        conditional = guard or operands.split("`")[0].strip(" ,")
        return (code.labels[target.group(1)] if target else None, bool(conditional))

    return at


def multiply_adds(op):
    """Multiply-adds in f32 that an instruction makes for a warp."""
    if op.startswith("FFMA"):
        return 32
    if op.startswith("HMMA"):
        shape = op.split(".")[1]  # 16816 or 1688
        return int(shape[:2]) * int(shape[2]) * int(shape[3:])
    return 0


def width(op):
    """Bytes that a load or store moves for a thread."""
    return next((WIDTHS[part] for part in op.split(".")[1:] if part in WIDTHS), 4)


def is_shared(op):
    return op.split(".")[0] in ("LDS", "STS", "LDSM", "ATOMS")


def is_global(op):
    return op.split(".")[0] in ("LDG", "STG", "LDGSTS", "LD", "ST", "ATOMG", "RED")


class Kernel(Function):
    """Counts of one variant."""

    def __init__(self, text):
        code = parse(text)
        super().__init__(code, jumps(code), multiply_adds)

    def divisions(self, places):
        """Integer divisions: an integer's reciprocal (I2F.RP, MUFU.RCP), or a call of the function for 64 bits."""
        found = 0
        for p in places:
            _, op, operands = self.code.instructions[p]
            found += op.startswith("I2F") and ".RP" in op
            found += op.startswith("CALL") and re.search(r"cuda_sm\d+_(div|rem)_[us]", operands) is not None
        return found

    def divisions_in_loops(self):
        """In innermost loops and the main one."""
        loops = self.innermost() + self.around()[:1]
        return self.divisions(frozenset().union(*(loop.own() for loop in loops)))

    def counts(self, places):
        """Instructions by kind."""
        ops = self.ops(places)
        kinds = {
            "products": Counter(op.split(".")[0] for op in ops if multiply_adds(op)),
            "shared": Counter(short(op) for op in ops if is_shared(op)),
            "global": Counter(short(op) for op in ops if is_global(op)),
            "integer": sum(op.split(".")[0] in MOVES_AND_INTEGERS for op in ops),
        }
        return kinds | {"all": len(ops)}

    def slots_per_product(self):
        """Instructions of the main loop for each FFMA or HMMA, whichever make the most of its multiply-adds; none without."""
        ops = self.ops(self.main_places())
        products = [op for op in ops if multiply_adds(op)]
        tensor = [op for op in products if op.startswith("HMMA")]
        return len(ops) / len(tensor or products) if products else None


def short(op):
    """LDG.128 of LDG.E.128.CONSTANT."""
    parts = op.split(".")
    return ".".join([parts[0], *(p for p in parts[1:] if p in WIDTHS)])
