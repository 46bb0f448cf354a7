"""Mutants of honest files: of any bytes, and of specs.

Knows: what careless hands do to a file. Rules: a mutant follows from its source and the generator alone,
so that a seed names it; a mutant need not be wrong. Leaves to others: models (`model_mutants`), bundles
(`forgeries`) and what must become of them (`fuzz`).
"""

import random
import re

LENGTHS = (0, 1, 2, 3, 7, -1, -2, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, -(1 << 63))
NUMBERS = (*map(str, LENGTHS), "nan", "inf", "-inf", "1e400", "1e-400", "0.5", "-0.0", "0x10")
VALUES = (
    *NUMBERS,
    *('""', '"a"', '"../../sample.npz"', '"/dev/zero"', '"."', '"' + "v" * 20000 + '"', "true"),
    *("[]", "[[[[[[]]]]]]", "{}", "[1, 2]", '["a", "a"]', "2026-11-21", '"""\nlines\n"""', "'\\'"),
    *('"INT64"', '"BYTES"', '"int8"', '"auto"', '"x"', '"\\u0000"', "[-1]", "[1000000000000]"),
)
_VALUE = re.compile(r"(?<== )\S.*$", re.MULTILINE)


def bytes_mutant(data: bytes, rng: random.Random) -> bytes:
    """One to four of: bits turned, bytes set, a piece cut out, put in, doubled, or the end cut off."""
    mutant = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(mutant) + 1)
        size = rng.choice((1, 2, 8, 64, 1024))
        piece = mutant[at : at + size]
        match rng.randrange(6):
            case 0 if piece:
                mutant[at] ^= 1 << rng.randrange(8)
            case 1 if piece:
                mutant[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del mutant[at : at + size]
            case 3:
                mutant[at:at] = rng.randbytes(size)
            case 4:
                mutant[at:at] = piece * rng.choice((1, 10))
            case _:
                del mutant[at:]
    return bytes(mutant) if mutant != data else bytes_mutant(data, rng)


def spec_mutant(text: str, rng: random.Random) -> str:
    """The spec `text` with one to three values, keys or lines changed."""
    for _ in range(rng.randint(1, 3)):
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        match rng.randrange(7):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, rng.choice(lines))
            case 2:
                lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
            case 3:
                lines[at] = re.sub(r"^\w+", rng.choice(("a", "modle", "model", "step")), lines[at])
            case 4:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                found = list(_VALUE.finditer(text))
                if found:
                    place = rng.choice(found)
                    text = f"{text[: place.start()]}{rng.choice(VALUES)}{text[place.end() :]}"
                    continue
        text = "\n".join(lines) + "\n"
        if not text.strip():
            return text
    return text
