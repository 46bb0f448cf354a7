"""Writes down what a release of TensorRT's Python bindings offers, for `tests.gpu.fake_tensorrt` to be held to.

Knows: how pybind11 tells signatures (the first lines of a docstring, or numbered lines for overloads), and which
classes a product like ours can meet. Rules: nothing is left out of a class that is kept; no object of the library is
made; one line a class, sorted, so that two dumps compare well. Leaves to others: where bindings and the libraries that
stand in for NVIDIA's come from (`tests.gpu.bindings`).

    python -m tests.gpu.dump_api            every release of packaging/bindings.lock into tests/gpu/dumps/
    python -m tests.gpu.dump_api --print    the module that this process can import, to standard output
"""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

DUMPS = Path(__file__).parent / "dumps"
MODULES = ("tensorrt_bindings", "tensorrt_lean_bindings")
# Layers, plugins and what serves only them: nothing of ours touches those, and they are three quarters of the bytes.
_LEFT_OUT = re.compile(
    r"I\w+Layer$|.*Plugin.*|IAlgorithm.*|I?Int8.*|ISymExpr.*|I?Loop.*|IIf.*|IAttention.*|Dims(2|3|4|HW|Exprs)$"
    r"|IDimensionExpr|IExprBuilder|IDebugListener|ITripLimit.*|KernelLaunchParams|Permutation|DynamicPlugin.*"
)
_KEPT_LAYER = "ILayer"
_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+\(.*\)(?: -> .*)?)$")


def dump(library: Any) -> dict[str, Any]:
    """What `library` offers: {"version", "classes", "enums", "functions", "constants"}, each by name."""
    found: dict[str, Any] = {
        "version": library.__version__,
        "classes": {},
        "enums": {},
        "functions": {},
        "constants": {},
    }
    for name, value in sorted(vars(library).items()):
        if name.startswith("_") or name in (
            "attr",
            "value",
        ):  # what a loop of the package leaves behind
            continue
        if isinstance(value, type):
            _add_class(found, name, value)
        elif hasattr(type(value), "__members__"):
            found["constants"][name] = f"{type(value).__name__}.{value.name}"
        elif callable(value) and not inspect.ismodule(value):
            found["functions"][name] = _signatures(value)
    return found


def _add_class(found: dict[str, Any], name: str, kind: type) -> None:
    """Into `found`, with the classes inside it as "Outer.Inner"."""
    if name != _KEPT_LAYER and _LEFT_OUT.match(name):
        return
    members = kind.__dict__.get("__members__")
    if members is not None:
        found["enums"][name] = {key: int(value) for key, value in sorted(kind.__members__.items())}  # type: ignore[attr-defined]
        return
    methods: dict[str, list[str]] = {}
    properties: dict[str, list[str]] = {}
    for key, value in sorted(vars(kind).items()):
        if isinstance(value, type):
            _add_class(found, f"{name}.{key}", value)
        elif isinstance(value, property):
            properties[key] = _property(value)
        elif hasattr(type(value), "__members__"):
            found["constants"][f"{name}.{key}"] = f"{type(value).__qualname__}.{value.name}"
        elif callable(value) and (not key.startswith("_") or key in _KEPT_SPECIAL):
            methods[key] = _signatures(value)
    found["classes"][name] = {
        "bases": [
            base.__name__
            for base in kind.__bases__
            if base.__name__ in dir(sys.modules[kind.__module__])
        ],
        "methods": methods,
        "properties": properties,
    }


_KEPT_SPECIAL = ("__init__", "__getitem__", "__setitem__", "__len__", "__eq__")
_NO_CONSTRUCTOR = (
    "(self, /, *args, **kwargs)"  # object's own: pybind11 then says "No constructor defined!"
)


def _property(value: property) -> list[str]:
    """[type that it gives, type that it takes]; "-" for what cannot be read or set."""
    gives = _first(value.fget, r"-> (.+)$") if value.fget else "-"
    takes = _first(value.fset, r"arg1: (.+)\) -> ") if value.fset else "-"
    return [gives, takes]


def _first(function: Any, pattern: str) -> str:
    text = inspect.getdoc(function) or ""
    found = re.search(pattern, text.splitlines()[0]) if text else None
    return _plain(found.group(1)) if found else ""


def _plain(text: str) -> str:
    """A signature without the names of modules, which differ between releases."""
    return re.sub(
        r"\b(?:tensorrt\w*\.tensorrt\w*|nvinfer1(?:::v_\d_\d)?|nvonnxparser|typing|typing_extensions|collections\.abc)(?:\.|::)",
        "",
        text,
    )


def _signatures(value: Any) -> list[str]:
    """Every overload as pybind11 tells it; of a Python function what `inspect` knows."""
    lines = [line.strip() for line in (inspect.getdoc(value) or "").splitlines()]
    overloaded = len(lines) > 1 and lines[1] == "Overloaded function."
    if overloaded:
        numbered = [line for line in lines if re.match(r"\d+\. ", line)]
        return [_plain(found.group(1)) for line in numbered if (found := _SIGNATURE.match(line))]
    if lines and (found := _SIGNATURE.match(lines[0])):
        return [_plain(found.group(1))]
    try:
        told = str(inspect.signature(value))
    except (TypeError, ValueError):
        return []
    return [] if told == _NO_CONSTRUCTOR else [f"{value.__name__}{told}"]


def as_text(found: dict[str, Any]) -> str:
    """JSON with one line a class, an enum or a function."""
    parts = []
    for part, content in found.items():
        if isinstance(content, str):
            parts.append(f' "{part}": {json.dumps(content)}')
            continue
        lines = [
            f"  {json.dumps(key)}: {json.dumps(value, sort_keys=True)}"
            for key, value in content.items()
        ]
        parts.append(f' "{part}": {{\n' + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def importable() -> Any:
    """The bindings that this process can import."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(f"none of {MODULES} can be imported")


def main() -> int:
    """As the module's docstring says."""
    if "--print" in sys.argv[1:]:
        print(as_text(dump(importable())), end="")
        return 0
    from tests.gpu import bindings

    DUMPS.mkdir(exist_ok=True)
    for release in bindings.RELEASES:
        with bindings.environment(release) as environment:
            told = subprocess.run(
                [sys.executable, "-m", "tests.gpu.dump_api", "--print"],
                env=environment, capture_output=True, text=True, check=True, cwd=bindings.ROOT,
            )  # fmt: skip
        (DUMPS / f"{release}.json").write_text(told.stdout)
        print(release, len(told.stdout))
    return 0


if __name__ == "__main__":
    sys.exit(main())
