"""Our classes and every name that we use, on TensorRT's real bindings of each release, in child processes.

The bindings stand on stub libraries (`tests/gpu/stubs`): enumerations, plain types and subclasses are real, no engine can
exist.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu import bindings

ROOMS = sorted(
    path
    for place in ("runtime/gpu", "compiler/targets/tensorrt", "compiler/selftest", "tests/hardware")
    for path in (bindings.ROOT / place).rglob("*.py")
)
LIBRARY = bindings.ROOT / "runtime" / "gpu" / "tensorrt_library.py"
# Only some releases have these; the code asks first (hasattr), or runs only where they are.
ASKED_FOR = {"IStreamWriter"}


@pytest.fixture(params=bindings.RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if (why := bindings.missing(name)) is not None:
        pytest.skip(why)
    return name


def test_our_subclasses_run_for_real(release: str) -> None:
    told = bindings.run(release, "from tests.gpu.bindings_child import main; main()")
    assert told.split() == ["logger", "recorder", "monitor", "allocator", "writer", "creation"]


def test_every_name_that_we_use_is_in_every_release(release: str) -> None:
    """`trt.A.B` anywhere in the product is asked of the real module; the lean one need only run plans."""
    every = {chain for path in ROOMS for chain in used(path)}
    chains = sorted(chain for chain in every if chain.partition(".")[0] not in ASKED_FOR)
    assert "ILogger" in chains
    told = bindings.run(
        release,
        """
import json, sys
from runtime.gpu.tensorrt_library import builds, library
trt = library()
def known(chain):
    found = trt
    for name in chain.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
print(json.dumps([builds(trt), [chain for chain in json.loads(sys.argv[1]) if not known(chain)]]))
""",
        json.dumps(chains),
    )
    builds, unknown = json.loads(told)
    if builds:
        assert not unknown
    else:
        running = set(used(bindings.ROOT / "runtime" / "gpu" / "execution.py"))
        assert not running & set(unknown)


def used(path: Path) -> Iterator[str]:
    """Each chain of names behind `trt` in a source, such as "BuilderFlag.TF32"."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "trt":
            yield ".".join(names)


def test_nobody_makes_what_crashes_without_a_driver() -> None:
    """A Runtime, Builder or Refitter is made in the library's room only, against a GPU that answered."""
    for path in ROOMS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                made = node.func.attr in ("Runtime", "Builder", "Refitter")
                assert not made or path == LIBRARY, f"{path}:{node.lineno}"
