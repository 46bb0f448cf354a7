"""Engines found again: by everything that they depend on, intact, and proven all the same."""

import msgspec
import pytest

from appliance.manifest import Precision
from appliance.store import Store
from compiler.compiling import cache
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget
from runtime.engines.stamp import stamp_of


class Counting(OnnxRuntimeTarget):
    """Counts what is really compiled."""

    def __init__(self):
        self.compiled = 0

    def compile(self, *args):
        self.compiled += 1
        return super().compile(*args)


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def built(workshop, counting):
    """A workshop with its bundle built once, and packed again with other release notes."""
    workshop.pack()
    workshop.build(targets=[counting])
    workshop.change('"the first"', '"the second"')
    workshop.pack()
    return workshop


def test_only_what_changed_is_compiled(built, counting):
    first = Store(built.config.state.store).open("tiny", 1).record
    again = built.build(targets=[counting]).version
    assert (again.number, counting.compiled) == (2, 1)
    assert again.record.engine == first.engine
    assert again.record.proof.golden_rows == 5
    assert Store(built.config.state.store).open("tiny", 2)


def test_a_damaged_engine_is_not_used_again(built, counting):
    version = Store(built.config.state.store).describe("tiny", 1)
    path = version.directory / version.record.engine.file
    path.write_bytes(b"damaged")
    built.build(targets=[counting])
    assert counting.compiled == 2


def test_another_recipe_or_model_is_another_key(built, counting):
    built.change("mean = [1.0]", "mean = [1.25]")
    built.pack()
    built.build(targets=[counting])
    assert counting.compiled == 2


def test_the_key_names_everything_that_an_engine_depends_on(workshop, monkeypatch):
    manifest = workshop.pack().manifest
    stamp = stamp_of("onnxruntime")

    def key(
        manifest=manifest, kind="onnxruntime", precision=Precision.FP32, stamp=stamp, threads=1
    ):
        return cache.engine_key(manifest, kind, precision, stamp, threads=threads)

    replace = msgspec.structs.replace
    other = replace(manifest.files[0], sha256="f" * 64)
    engine = replace(manifest.engine, batch_max=4)
    keys = [
        key(),
        key(replace(manifest, files=(other, *manifest.files[1:]))),
        key(replace(manifest, recipe=replace(manifest.recipe, labels=()))),
        key(replace(manifest, engine=engine)),
        key(kind="openvino"),
        key(precision=Precision.BF16),
        key(stamp=stamp | {"library": "onnxruntime 99"}),
        key(threads=2),
    ]
    monkeypatch.setattr(cache, "release", lambda: "99")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    monkeypatch.undo()
    assert key(replace(manifest, release_notes="others")) == keys[0]
