"""TOML and JSON tables read into typed, frozen structs, and structs written as canonical JSON.

Knows: how a wrong key or value is told to a person. Rules: unknown keys are refused with the nearest
known one; the message names the place. Leaves to others: which structs exist (msgspec defines them).
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from appliance.errors import ApplianceError

T = TypeVar("T")
NAME_CHARACTERS_MAX = 48  # comparing two names takes the product of their lengths
NAMES_MAX = 192


def read_toml(path: Path, kind: type[T], error: type[ApplianceError]) -> T:
    """Read the TOML file `path` as a `kind`; raises `error` naming the file, place and remedy."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as cause:
        raise error(
            f"cannot read {path}: {cause.strerror or cause}", remedy="check the path"
        ) from cause
    # A ValueError of int's comes through tomllib for a number of thousands of digits.
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is not TOML: {cause}", remedy="correct the file") from cause
    return from_table(table, kind, error, where=str(path))


def from_table(table: object, kind: type[T], error: type[ApplianceError], *, where: str) -> T:
    """Convert plain values to a `kind`; raises `error` saying what is wrong in `where`."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as cause:
        raise error(f"{where}: {cause}", remedy=_remedy(str(cause), kind)) from cause


def from_json(data: bytes, kind: type[T], error: type[ApplianceError], *, where: str) -> T:
    """Decode JSON bytes as a `kind`; raises `error` saying what is wrong in `where`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as cause:
        raise error(f"{where}: {cause}", remedy=_remedy(str(cause), kind)) from cause
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise error(f"{where}: {cause}", remedy="correct the file") from cause


def canonical_json(value: object) -> bytes:
    """The one JSON form of `value`: sorted keys, no spaces, UTF-8, shortest float digits."""
    return msgspec.json.encode(value, order="sorted")


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one of `known` that `name` was most likely meant to be, None when none is near.

    Names that differ in case, spaces or signs alone come first. Quick whatever a sender makes up: long
    names and more than NAMES_MAX of them are not compared letter by letter.
    """
    if len(name) > NAME_CHARACTERS_MAX:
        return None
    plain = _plain(name)
    same = next((other for other in known if plain and _plain(other) == plain), None)
    if same is not None or len(known) > NAMES_MAX:
        return same
    short = [other for other in known if len(other) <= NAME_CHARACTERS_MAX]
    return next(iter(difflib.get_close_matches(name, short, n=1)), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _remedy(message: str, kind: type[Any]) -> str:
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if unknown is None:
        missing = re.search(r"missing required field `([^`]+)`", message)
        if missing is not None:
            return f"add `{missing[1]}`"
        allowed = _allowed(message, kind)
        return f"use one of {', '.join(allowed)}" if allowed else "correct the value"
    known = _known_keys(kind)
    if unknown[1] in known:
        return f"`{unknown[1]}` is a key of another table: move it there or remove it"
    near = nearest(unknown[1], known)
    return f"did you mean `{near}`?" if near else "remove the key"


def _known_keys(kind: Any) -> set[str]:
    """Every key that may appear anywhere in a `kind`, from msgspec's own description of it."""
    _, components = msgspec.json.schema_components([kind])
    return {key for part in components.values() for key in part.get("properties", {})}


def _allowed(message: str, kind: Any) -> list[str]:
    """The words that could stand where msgspec's `message` says that an unknown one does."""
    wrong = re.search(r"^Invalid (?:enum )?value .* - at `\$([^`]*)`$", message)
    if wrong is None:
        return []
    found = [msgspec.inspect.type_info(kind)]
    for name in re.findall(r"\.(\w+)|\[", wrong[1]):
        found = [inner for outer in found for inner in _within(outer, name)]
    kinds = [each for outer in found for each in _unfolded(outer)]
    return [
        str(word)
        for each in kinds
        if isinstance(each, msgspec.inspect.EnumType | msgspec.inspect.LiteralType)
        for word in (each.values if isinstance(each, msgspec.inspect.LiteralType) else each.cls)
    ]


def _within(kind: msgspec.inspect.Type, name: str) -> Iterator[msgspec.inspect.Type]:
    """What may stand in a `kind` under the key `name`, or as an item where that is empty."""
    for each in _unfolded(kind):
        if isinstance(each, msgspec.inspect.StructType):
            yield from (field.type for field in each.fields if field.encode_name == name)
            if name == each.tag_field:
                yield msgspec.inspect.LiteralType((each.tag,))
        elif isinstance(each, msgspec.inspect.DictType):
            yield each.value_type
        elif isinstance(each, msgspec.inspect.CollectionType):
            yield each.item_type


def _unfolded(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
