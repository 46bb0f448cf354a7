"""What a child tells of its work, held against the manifest before anything is filed."""

import msgspec
import pytest

from appliance.errors import BuildCrashed, EngineBuild
from appliance.manifest import Precision
from compiler.compiling import compiling
from runtime.engines.stamp import PORTABLE, stamp_of


@pytest.fixture
def told(workshop, monkeypatch):
    """Lets a build tell something else than it found."""
    workshop.pack()
    real = compiling.compile_staged

    def change(**changes):
        def lying(*arguments, **options):
            found = real(*arguments, **options)
            made = {name: change(found) for name, change in changes.items()}
            return msgspec.structs.replace(found, **made)

        monkeypatch.setattr(compiling, "compile_staged", lying)
        return workshop

    return change


def engine(**changes):
    return lambda found: msgspec.structs.replace(found.entry, **changes)


def proof(change):
    """A proof whose reached values are others."""
    return lambda found: msgspec.structs.replace(found.proof, reached=change(found.proof.reached))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"entry": engine(precision=Precision.BF16)}, "an engine in bf16, not fp32"),
        ({"entry": engine(precision=Precision.AUTO)}, "an engine in auto, not fp32"),
        ({"entry": engine(file="../model.onnx")}, r"calls its engine '\.\./model\.onnx'"),
        ({"entry": engine(sha256="0" * 64)}, "left no such"),
        ({"fallback": engine(kind=PORTABLE, precision=Precision.INT8)}, "int8 to fall back on"),
        ({"fallback": engine()}, "fp32 to fall back on"),
        ({"entry": engine(kind=PORTABLE)}, "which is to fall back on alone"),
        ({"proof": proof(lambda _: ())}, "misses what was agreed"),
        (
            {"proof": proof(lambda all_: (msgspec.structs.replace(all_[0], value=0.1),))},
            "misses what was agreed",
        ),
    ],
)
def test_a_child_that_tells_what_was_not_asked_for_is_not_believed(told, changes, text):
    workshop = told(**changes)
    with pytest.raises(BuildCrashed, match=text):
        workshop.build()
    assert workshop.left_behind() == []


def test_what_cannot_be_removed_is_not_filed(told, monkeypatch):
    workshop = told()
    monkeypatch.setattr("compiler.staged.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(BuildCrashed, match="which cannot be removed"):
        workshop.build()
    assert [path.name for path in workshop.left_behind() if path.parent.name == "tiny"] == []


def test_the_stamp_is_this_boxs_own(told):
    record = told(entry=engine(stamp={"library": "nonsense"})).build().version.record
    assert record.engine.stamp == stamp_of(record.engine.kind)


def test_the_fallback_has_its_own_stamp_and_key(told):
    def lying(found):
        return msgspec.structs.replace(found.fallback, stamp=found.entry.stamp, key="0" * 64)

    fallback = told(fallback=lying).build().version.record.fallback
    assert fallback.stamp == stamp_of(PORTABLE)
    assert fallback.key != "0" * 64


def test_neither_errors_nor_verdicts_name_the_place_where_a_bundle_is_staged(told, monkeypatch):
    def naming(found):
        place = f"{workshop.config.state.store}/.staging"
        (staged,) = (path for path in (workshop.config.state.store / ".staging").glob("tmp*"))
        assert str(staged).startswith(place)
        verdict = f"cannot load {staged}/engine.blob"
        return tuple(msgspec.structs.replace(item, verdict=verdict) for item in found.trials)

    workshop = told(trials=naming)
    record = workshop.build().version.record
    assert {trial.verdict for trial in record.trials} == {"cannot load engine.blob"}

    def failing(directory, *_arguments, **_options):
        raise EngineBuild(f"cannot load {directory}/engine.blob", remedy="build again")

    monkeypatch.setattr(compiling, "compile_staged", failing)
    workshop.change('"the first"', '"the second"')
    workshop.pack()
    with pytest.raises(EngineBuild, match=r"^cannot load engine\.blob$"):
        workshop.build()
