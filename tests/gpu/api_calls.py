"""Holds a call to a signature as pybind11 tells it: arity, keywords, and the types of arguments.

Knows: the words for types in TensorRT's docstrings. Rules: stricter than the library where that finds mistakes (no None
for an object, no number for a flag of the kind bool), never more lenient. Leaves to others: what a call does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """One argument: its name, the word for its type, whether it may be left out."""

    name: str
    kind: str
    optional: bool


class Signature(NamedTuple):
    """A function as told, without `self`; `named` says that keywords may be used."""

    text: str
    parameters: tuple[Parameter, ...]


def parse(text: str) -> Signature:
    """`name(self: X, a: int = 0) -> Y` taken apart."""
    inside = re.sub(r"^\w+\(", "", re.sub(r"\)( -> .*)?$", "", text))
    parameters = []
    for piece in _pieces(inside):
        head, _, default = piece.partition(" = ")
        name, _, kind = head.partition(": ")
        if name not in ("self", "/", "*"):
            parameters.append(Parameter(name.strip(), kind.strip(), bool(default)))
    return Signature(text, tuple(parameters))


def _pieces(text: str) -> list[str]:
    """Split at the commas that lie in no bracket."""
    pieces, depth, piece = [], 0, ""
    for letter in text:
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and not depth:
            pieces.append(piece.strip())
            piece = ""
        else:
            piece += letter
    return [*pieces, piece.strip()] if piece.strip() else pieces


def bound(
    what: str,
    signatures: Sequence[Signature],
    classes: Mapping[str, Any],
    arguments: tuple[object, ...],
    keywords: Mapping[str, object],
) -> dict[str, Any]:
    """The arguments by name after the first overload that takes them.

    Raises TypeError, as pybind11 does, when there is none.
    """
    for signature in signatures:
        found = _fit(signature, classes, arguments, keywords)
        if found is not None:
            return found
    known = "\n".join(f"    {number}. {one.text}" for number, one in enumerate(signatures, 1))
    given = ", ".join(
        [*map(repr, arguments), *(f"{key}={value!r}" for key, value in keywords.items())]
    )
    raise TypeError(
        f"{what}: incompatible function arguments. The following are supported:\n{known}\n\nInvoked with: {given}"
    )


def _fit(
    signature: Signature,
    classes: Mapping[str, Any],
    arguments: tuple[object, ...],
    keywords: Mapping[str, object],
) -> dict[str, Any] | None:
    parameters = signature.parameters
    if len(arguments) > len(parameters):
        return None
    found = {parameter.name: value for parameter, value in zip(parameters, arguments, strict=False)}
    for name, value in keywords.items():
        if name in found or name not in {one.name for one in parameters} or name.startswith("arg"):
            return None
        found[name] = value
    for parameter in parameters:
        if parameter.name not in found:
            if not parameter.optional:
                return None
        elif parameter.optional and found[parameter.name] is None:
            continue
        elif not accepts(parameter.kind, found[parameter.name], classes):
            return None
    return found


def accepts(kind: str, value: object, classes: Mapping[str, Any]) -> bool:
    """Whether `value` may be given where the signature says `kind`."""
    simple = {
        "int": _whole,
        "SupportsInt": _whole,
        "SupportsIndex": _whole,
        "float": lambda one: isinstance(one, int | float),
        "SupportsFloat": lambda one: isinstance(one, int | float),
        "bool": lambda one: isinstance(one, bool),
        "str": lambda one: isinstance(one, str),
        "tuple": lambda one: isinstance(one, tuple),
        "list": lambda one: isinstance(one, list),
        "buffer": _buffer,
        "Buffer": _buffer,
        "capsule": lambda one: type(one).__name__ == "PyCapsule",
        "CapsuleType": lambda one: type(one).__name__ == "PyCapsule",
        "numpy.ndarray": lambda one: type(one).__name__ == "ndarray",
    }
    kind = kind.removesuffix(" | None")
    if kind in simple:
        return bool(simple[kind](value))
    if kind == "Dims":
        return isinstance(value, classes["Dims"]) or _all(value, "int", classes)
    if found := re.fullmatch(r"(?:[Ll]ist|Sequence|Iterable)\[(.+)\]", kind):
        return _all(value, found.group(1), classes)
    if kind in classes:
        return isinstance(value, classes[kind])
    return kind in ("", "object")  # of anything else the dump knows nothing, so it cannot be called


def _whole(value: object) -> bool:
    return hasattr(value, "__index__")


def _buffer(value: object) -> bool:
    try:
        memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _all(value: object, kind: str, classes: Mapping[str, Any]) -> bool:
    return isinstance(value, list | tuple) and all(accepts(kind, one, classes) for one in value)
