"""Mutants of honest bytes, and what must become of them.

Knows: how bytes and JSON are mutilated so that a mutant reaches what lies behind the first check, the one property
that every parser here has, and the saved cases. Rules: the property is that nothing but an ApplianceError (or
what the caller names) comes out, within MEMORY_BYTES_MAX; time is bounded by the profile of `make fuzz`, never by
the suite. A case that breaks it in `make fuzz` is left in build/fuzz/found, from where it goes to the corpus.
Leaves to others: which parsers there are.
"""

import json
import re
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from appliance.errors import ApplianceError

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(__file__).parents[2] / "build" / "fuzz" / "found"
PROFILE = "fuzz"  # what `make fuzz` runs under; see conftest
MEMORY_BYTES_MAX = 64 << 20  # of Python's own and numpy's allocations, for one small case
_MARKS = {  # what no JSON writer writes, put in its place in the text
    "@deep": "[" * 2000 + "]" * 2000,
    "@open": "[" * 2000,
    "@long": "9" * 5000,
    "@huge": "1e999",
}
_TOML = (
    "-1",
    "0",
    "nan",
    "1e999",
    '""',
    "[]",
    "{}",
    "true",
    "2026-11-21",
    "9" * 400,
    "'\\'",
    '"\\u0000"',
)
_VALUE = re.compile(r"(?<== )\S.*$", re.MULTILINE)
MESSAGE_CHARACTERS_MAX = 100_000
Test = TypeVar("Test", bound=Callable[..., Any])

_FEW = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
_BYTES = (0x00, 0x01, 0x0A, 0x22, 0x5B, 0x7B, 0x7F, 0x80, 0xFE, 0xFF)
_PIECES = (
    b"",
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"9" * 5000,
    b'"\\ud800"',
    b"\xed\xa0\x80",
    b"\n\n",
    b"\r",
    b"../" * 8,
    b"a" * 3000,
)
_ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1 << 31, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**400, 0.5, -0.0, 1e308),
    *(
        "",
        "\ud800",
        "\0",
        "a" * 3000,
        "../../x",
        "/",
        "nan",
        "2026-13-45",
        "0" * 64,
        "é",
        "=",
        "A===",
    ),
    *([], {}, [[]], {"": None}, [0] * 500, ["a", "a"]),
)


def fuzzed(test: Test) -> Test:
    """A property with few examples, the same at each run; as `make fuzz` says under its profile."""
    return _FEW(test) if settings.get_current_profile_name() != PROFILE else settings()(test)


@st.composite
def mutants(draw: st.DrawFn, honest: Sequence[bytes]) -> bytes:
    """One of `honest`, one to four times flipped, cut, repeated, spliced, or given an odd piece."""
    data = bytearray(draw(st.sampled_from(honest)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from((1, 2, 4, 8, 64, 512)))
        match draw(st.integers(0, 7)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1 if at < len(data):
                data[at] = draw(st.sampled_from(_BYTES))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size] * draw(st.sampled_from((1, 2, 50)))
            case 4:
                other = draw(st.sampled_from(honest))
                start = draw(st.integers(0, len(other)))
                data[at : at + draw(st.integers(0, 64))] = other[start : start + size]
            case 5:
                data[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from(_PIECES))
            case 6:
                data[at:at] = draw(st.binary(max_size=16))
            case _:
                del data[at:]
    return bytes(data)


@st.composite
def json_mutants(draw: st.DrawFn, honest: Sequence[bytes]) -> bytes:
    """One of `honest`, which are JSON, with one to three values odd, gone, doubled or buried.

    It is canonical JSON again where its values allow that, so that it passes for what a writer wrote.
    """
    said = json.loads(draw(st.sampled_from(honest)))
    for _ in range(draw(st.integers(1, 3))):
        said = _odder(draw, said)
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    for mark, piece in _MARKS.items():
        text = text.replace(f'"{mark}"', piece)
    return text.encode()


@st.composite
def toml_mutants(draw: st.DrawFn, honest: Sequence[bytes]) -> bytes:
    """One of `honest`, which are TOML, with one to three of its values odd."""
    text = draw(st.sampled_from(honest)).decode()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_VALUE.finditer(text))))
        odd = draw(st.sampled_from((*_TOML, *_MARKS.values())))
        if place[0].startswith('"') and draw(st.booleans()):
            odd = f'"{draw(st.sampled_from(("box:", "", "127.0.0.1:", "/")))}{odd}"'
        text = f"{text[: place.start()]}{odd}{text[place.end() :]}"
    return text.encode()


def _odder(draw: st.DrawFn, said: Any) -> Any:
    """`said` with one place in it changed."""
    if isinstance(said, dict | list) and said and draw(st.integers(0, 9)):
        keys = list(said) if isinstance(said, dict) else list(range(len(said)))
        key = draw(st.sampled_from(keys))
        match draw(st.integers(0, 5)):
            case 0:
                del said[key]
            case 1 if isinstance(said, dict):
                name = draw(st.sampled_from(("", "", "kind", *map(str, keys))))
                said[name] = draw(st.sampled_from((deepcopy(said[key]), *_MARKS)))
            case 1:
                said.append(deepcopy(said[key]))
            case _:
                said[key] = _odder(draw, said[key])
        return said
    if isinstance(said, str) and draw(st.booleans()):
        at = draw(st.integers(0, len(said)))
        return (
            said[:at]
            + draw(st.sampled_from(("", "\n", "=", "\ud800", "é", "0", " ")))
            + said[at + 1 :]
        )
    if isinstance(said, int) and draw(st.booleans()):
        return said + draw(st.sampled_from((-1, 1, 1 << 32)))
    return deepcopy(draw(st.sampled_from((*_ODD, *_MARKS))))


def refused_or_taken(
    act: Callable[[bytes], object], data: bytes, *others: type[Exception]
) -> str | None:
    """Let `act` at `data`: None when it took it, else the refusal's code. Anything but a refusal fails.

    A refusal is an ApplianceError with a text and a remedy, or one of `others`.
    """
    refusal: ApplianceError | None = None
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the runtime does: a warning is no refusal
            act(data)
    except others as error:
        return type(error).__name__
    except ApplianceError as error:
        refusal = error
    except Exception:
        _kept(act, data)
        raise
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY_BYTES_MAX, f"{peak} bytes; {_kept(act, data)}"
    if refusal is not None:
        assert 0 < len(str(refusal).strip()) < MESSAGE_CHARACTERS_MAX, _kept(act, data)
        assert refusal.remedy.strip(), _kept(act, data)
    return refusal.code if refusal else None


def saved(family: str) -> list[Any]:
    """The saved cases of a family: one that was found once, or that stands for a sort of attack."""
    return sorted((CORPUS / family).iterdir())


def _kept(act: Callable[..., object], data: bytes) -> str:
    """Leave a case behind, the smallest of its parser; says where."""
    if settings.get_current_profile_name() != PROFILE:
        return f"{data[:200]!r}"
    name = getattr(act, "__name__", "case").strip("_")
    path = FOUND / name
    FOUND.mkdir(parents=True, exist_ok=True)
    if not path.exists() or len(data) <= path.stat().st_size:
        path.write_bytes(data)
    return str(path)
