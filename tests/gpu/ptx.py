"""Runs PTX without a GPU: what the compiler made of our kernels, instruction by instruction.

Knows: the instructions that our kernels come to, as the PTX ISA 9.0 describes them. Rules: an instruction
that is not known fails; threads run one after another, each to the next barrier, which must be the same one for all; what lies in
shared memory at first is noise. Leaves to others: foreign accesses and races (`ptx_memory`), speed, and what the
assembler makes of the text.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from appliance.tensors import Array
from runtime.gpu.program import Launch, Long, Place, Single, Whole
from tests.gpu.ptx_memory import SINGLES, SPACES, Memory, Value, mask, whole

ENTRY = re.compile(
    r"\.entry (\w+)\((.*?)\)\s*(?:\.\w+ [\d, ]+\s*)*\{(.*?)^\}", re.DOTALL | re.MULTILINE
)
SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];")
PARAMETER = re.compile(r"\.param \.\w+ (?:\.ptr \.align \d+ )?(\w+)")
LINE = re.compile(r"(?:@(!?)%(\w+)\s+)?([a-z][\w.]*)\s*(.*);")
KNOWN = re.compile(
    "add|sub|mul|mad|div|rem|min|max|and|or|xor|not|neg|abs|sqrt|rcp|shl|shr|bfi|mov|cvta|cvt|ld|st|atom"
    "|selp|setp|bra|ret|bar"
)
SHARED_MOST = 48 * 1024  # what a block has without asking
OVER = -1  # of a thread that ended, in place of the barrier that it waits at


def kernels_of(ptx: str) -> dict[str, Callable[..., Iterator[int]]]:
    """The kernels of a text by name, each to be called with memory, parameters, thread, block, and the sizes of block and grid."""
    shared = _shared(ptx)
    return {
        name: _compiled(
            name, takes, re.sub(r"\b[A-Za-z]\w+", lambda w: shared.get(w[0], w[0]), body)
        )
        for name, takes, body in ENTRY.findall(ptx)
    }


def run_ptx(ptx: str, launches: list[Launch], arena: Array, constants: bytes) -> None:
    """Run launches over an `arena` of bytes and a program's constants, as `threads.run_launches` does."""
    kernels = kernels_of(ptx)
    shared = np.empty(SHARED_MOST, np.uint8)
    memory = Memory(
        {"arena": arena, "constants": np.frombuffer(constants, np.uint8), "shared": shared}
    )
    noise = np.random.default_rng(2)
    for launch in launches:
        given = [_given(argument) for argument in launch.arguments]
        memory.begin_launch()
        for block in product(*(range(count) for count in launch.grid)):
            shared[:] = noise.integers(0, 256, SHARED_MOST, np.uint8)
            memory.begin_block()
            threads = {
                thread: kernels[launch.kernel](
                    memory, given, thread, block, launch.block, launch.grid
                )
                for thread in product(*(range(count) for count in launch.block))
            }
            reached = {0}
            while reached != {OVER}:
                memory.begin_stretch()
                reached = {_next(memory, at, thread) for at, thread in threads.items()}
                assert len(reached) == 1, "a barrier that not all threads reach"


def _next(memory: Memory, at: object, thread: Iterator[int]) -> int:
    """Run a thread up to its next barrier, and say which that is."""
    memory.thread = at
    with np.errstate(all="ignore"):
        return next(thread, OVER)


def quotient(a: int, b: int) -> int:
    """As div of integers: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """As rem of integers: what `quotient` leaves."""
    return a - b * quotient(a, b)


def single(value: Value) -> np.float32:
    """A register read as a single."""
    if isinstance(value, np.float32):
        return value
    return np.uint32(value & mask(32)).view(np.float32)  # type: ignore[no-any-return]


def signed(value: Value, width: int) -> int:
    """A register's low bits read as an integer with a sign."""
    low = whole(value) & mask(width)
    return low - (1 << width) if low >> (width - 1) else low


def truncated(value: np.float32, width: int) -> int:
    """As cvt.rzi to an integer with a sign: towards zero, saturated, NaN to 0."""
    if np.isnan(value):
        return 0
    most = (1 << (width - 1)) - 1
    return int(max(min(np.float64(value), most), -most - 1))


def inserted(field: int, into: int, at: int, width: int) -> int:
    """As bfi: the low `width` bits of a field in place of those of `into` from bit `at` on."""
    hole = mask(width) << at
    return (into & ~hole) | (field << at & hole)


def _given(argument: Any) -> Value:
    match argument:
        case Place(space=space, offset=offset):
            return SPACES[space] + offset
        case Whole(value) | Long(value):
            return value & mask(64)
        case Single(value):  # pragma: no branch
            return np.float32(value)


def _shared(ptx: str) -> dict[str, str]:
    """The address of each shared array, as text; arrays of different kernels lie side by side."""
    addresses, at = {}, {}
    for align, name, size in SHARED.findall(ptx):
        kernel = name.rpartition("_")[0]
        start = -(-at.get(kernel, 0) // int(align)) * int(align)
        addresses[name], at[kernel] = str(SPACES["shared"] + start), start + int(size)
    assert max(at.values(), default=0) <= SHARED_MOST, "more shared memory than a block has"
    return addresses


def _compiled(name: str, takes: str, body: str) -> Callable[..., Iterator[int]]:
    """A kernel as a Python function: a loop over its basic blocks."""
    places = {place: at for at, place in enumerate(PARAMETER.findall(takes))}
    blocks, labels = [[]], {}
    for text in re.sub(r"//[^\n]*", "", body).splitlines():
        line = text.strip()
        if line.endswith(":"):
            labels[line[:-1]] = len(blocks)
            blocks.append([])
        elif line and not line.startswith("."):
            blocks[-1].append(line)
    source = [f"def {name}(memory, given, tid, ctaid, ntid, nctaid):", " block = 0", " while True:"]
    for number, lines in enumerate(blocks):
        source.append(f"  if block == {number}:")
        source += [
            f"   {_statement(line, places, labels, number * 1000 + at)}"
            for at, line in enumerate(lines)
        ]
        source.append(f"   block = {number + 1}")
    source.append("  yield 0")  # never reached: it makes the function one that can wait
    names: dict[str, Any] = dict(globals())
    exec("\n".join(source), names)
    function: Callable[..., Iterator[int]] = names[name]
    return function


def _statement(line: str, places: Mapping[str, int], labels: Mapping[str, int], number: int) -> str:
    """An instruction as Python; `number` is its own."""
    found = LINE.fullmatch(line)
    assert found, f"PTX that is not known: {line}"
    no, condition, operation, rest = found.groups()
    assert KNOWN.fullmatch(operation.split(".")[0]), f"PTX that is not known: {line}"
    operands = [_operand(each.strip(), places) for each in re.split(r",(?![^{]*\})", rest)]
    if operation in ("bra", "bra.uni"):
        done = f"block = {labels[rest.strip()]}; continue"
    elif operation == "ret":
        done = "return"
    elif operation == "bar.sync":
        done = f"yield {number}"
    elif operation.startswith("atom.shared.add."):
        kind = operation.split(".")[3]
        done = f"{operands[0]} = memory.add('{kind}', {operands[1]}, {operands[2]})"
    elif operation.startswith(("st.global.", "st.shared.")):
        done = f"memory.write('{operation.split('.')[2]}', {operands[0]}, {operands[1]})"
    else:
        done = f"{operands[0]} = {_expression(operation, operands[1:])}"
    return f"if {'not ' if no else ''}{condition}: {done}" if condition else done


def _operand(text: str, places: Mapping[str, int]) -> str:
    if text.startswith("["):
        inner = text[1:-1]
        if inner in places:
            return f"given[{places[inner]}]"
        register, _, offset = inner.partition("+")
        return f"(({_operand(register, places)} + {offset or 0}) & {mask(64)})"
    if text.startswith("%"):
        register, _, axis = text[1:].partition(".")
        return f"{register}['xyz'.index('{axis}')]" if axis else register
    if text.startswith("0f"):
        return f"single({int.from_bytes(bytes.fromhex(text[2:]))})"
    return f"({text})"


COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNORDERED = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<", "neu": "=="}  # also true of NaN
CALLED = {"min": "min", "max": "max", "abs": "abs", "div": "quotient", "rem": "remainder"}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
BITS = {"and": "&", "or": "|", "xor": "^"}


def _expression(operation: str, of: list[str]) -> str:
    """What an instruction computes, from the words of its name."""
    name, *kinds = operation.split(".")
    kind = kinds[-1]
    width = 1 if kind == "pred" else int(kind[1:])
    if kind in SINGLES and name != "cvt":
        return _of_singles(name, kinds, of)
    if name == "ld":
        return of[0] if kinds[0] == "param" else f"memory.read('{kind}', {of[0]})"
    if name in ("mov", "cvta"):
        return of[0]
    if name == "cvt":
        return _cast(kinds, of[0])
    if name == "selp":
        return f"{of[0]} if {of[2]} else {of[1]}"
    if kind == "pred":
        return f"not {of[0]}" if name == "not" else f"bool({of[0]} {BITS[name]} {of[1]})"
    signs = kind[0] == "s"
    values = [f"signed({each}, {width})" if signs else f"whole({each})" for each in of]
    if name == "setp":
        return f"{values[0]} {COMPARED[kinds[0]]} {values[1]}"
    return _of_integers(name, kinds, width, values)


def _of_integers(name: str, kinds: list[str], width: int, values: list[str]) -> str:
    if name in CALLED:
        return f"{CALLED[name]}({', '.join(values)}) & {mask(width)}"
    if name in ("shl", "shr"):
        sign = "<<" if name == "shl" else ">>"
        return f"({values[0]} {sign} min({values[1]}, {width})) & {mask(width)}"
    if name in ("mul", "mad"):
        made = f"{values[0]} * {values[1]}" + (f" + {values[2]}" if name == "mad" else "")
        assert kinds[0] in ("lo", "wide"), f"PTX that is not known: {name} {kinds}"
        return f"({made}) & {mask(width * (2 if kinds[0] == 'wide' else 1))}"
    if name == "bfi":
        return f"inserted({', '.join(values)})"
    if name in BITS:
        return f"{values[0]} {BITS[name]} {values[1]}"
    if name in ("not", "neg"):
        return f"({'~' if name == 'not' else '-'}{values[0]}) & {mask(width)}"
    assert name in ("add", "sub"), f"PTX that is not known: {name} {kinds}"
    return f"({values[0]} {ARITHMETIC[name]} {values[1]}) & {mask(width)}"


def _of_singles(name: str, kinds: list[str], of: list[str]) -> str:
    if name == "ld":
        return of[0] if kinds[0] == "param" else f"memory.read('f32', {of[0]})"
    if name == "mov":
        return of[0]
    if name == "selp":
        return f"{of[0]} if {of[2]} else {of[1]}"
    first, second = (f"single({each})" for each in [*of, of[0]][:2])
    if name in ("abs", "neg"):
        return f"abs({first})" if name == "abs" else f"-{first}"
    if name == "setp" and kinds[0] == "num":
        return f"not (np.isnan({first}) or np.isnan({second}))"
    if name == "setp" and kinds[0] in UNORDERED:
        return f"not ({first} {UNORDERED[kinds[0]]} {second})"
    if name == "setp":
        assert kinds[0] != "ne", "true of NaN in Python only"
        return f"bool({first} {COMPARED[kinds[0]]} {second})"
    if name in ("min", "max"):  # the other one where one is NaN
        return f"np.f{name}({first}, {second})"
    assert kinds[0] == "rn", f"an operation that may be fused: {name} {kinds}"
    if name in ("sqrt", "rcp"):
        return f"np.sqrt({first})" if name == "sqrt" else f"np.float32(1) / {first}"
    return f"{first} {ARITHMETIC[name]} {second}"


def _cast(kinds: list[str], value: str) -> str:
    """As cvt: the type made stands before the type read."""
    made, read = kinds[-2:]
    if (made, read) == ("f32", "f16"):
        return f"np.float32(np.uint16({value}).view(np.float16))"
    if (made, read) == ("f16", "f32"):
        return f"int(np.float16(single({value})).view(np.uint16))"
    if read == "f32":
        assert (kinds[0], made[0]) == ("rzi", "s"), kinds
        return f"truncated(single({value}), {made[1:]}) & {mask(int(made[1:]))}"
    whole_ = (
        f"signed({value}, {read[1:]})"
        if read[0] == "s"
        else f"(whole({value}) & {mask(int(read[1:]))})"
    )
    if made == "f32":
        return f"np.{'int64' if read[0] == 's' else 'uint64'}({whole_}).astype(np.float32)"
    return f"{whole_} & {mask(int(made[1:]))}"
