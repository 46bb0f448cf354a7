"""Mutants of the examples are refused with a reason or served; nothing else becomes of them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attack import (
    KEY,
    KINDS,
    SERVED,
    SOURCES,
    Mutant,
    bundle_of,
    fate,
    honest_bundle,
    model_of,
    spec_of,
)
from house import REFUSED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import ApplianceError
from compiler.compiling.content import check_content
from compiler.intake import take_in
from compiler.opening.graph import interface_of
from compiler.opening.source import open_source
from compiler.spec import read_spec

SEEDS = st.integers(0, 2**32)
TRUSTED = {KEY.public.raw: KEY.public}


def several(examples: int) -> settings:
    """The same examples at every run; a mutant may take its time and the file is written anew."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def reason_of(act: Callable[[], object]) -> str | None:
    """The code of the refusal, None when there was none; any other exception comes through."""
    try:
        act()
    except ApplianceError as error:
        refusal = error
    else:
        return None
    assert str(refusal).strip()
    assert refusal.remedy.strip()
    assert refusal.code != ApplianceError.code
    return refusal.code


@several(150)
@given(SEEDS, st.sampled_from(["model fields", "model bytes"]))
def test_a_mutated_model_is_opened_or_refused(tmp_path: Path, seed: int, kind: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(Mutant(kind, seed)))
    reason_of(lambda: interface_of(open_source(path), None))


@several(100)
@given(SEEDS)
def test_a_mutated_spec_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "s.toml"
    path.write_text(spec_of(Mutant("spec", seed)), "utf-8")
    reason_of(lambda: read_spec(path))


@several(100)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(data)
    assert reason_of(lambda: open_source(path)) == "source.format"
    assert reason_of(lambda: read_spec(path)) == "spec.invalid"
    assert reason_of(lambda: take_in(path, TRUSTED, tmp_path / "out")) == "bundle.format"


@several(100)
@given(SEEDS)
def test_a_changed_bundle_is_never_taken_in(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "b.holdfast", tmp_path / str(time.monotonic_ns())
    out.mkdir()
    data = bundle_of(Mutant("bundle bytes", seed))
    path.write_bytes(data)
    if data not in [honest_bundle(source) for source in SOURCES]:
        assert reason_of(lambda: take_in(path, TRUSTED, out))


@several(60)
@given(SEEDS)
def test_a_forged_bundle_is_sound_or_refused(tmp_path: Path, seed: int) -> None:
    path, out = tmp_path / "b.holdfast", tmp_path / str(time.monotonic_ns())
    out.mkdir()
    path.write_bytes(bundle_of(Mutant("forged bundle", seed)))
    reason_of(lambda: check_content(out, take_in(path, TRUSTED, out).manifest))


@pytest.mark.parametrize("kind", KINDS)
def test_mutants_are_served_or_refused(kind: str) -> None:
    """The whole way, in a child process as the commands go it."""
    for seed in range(3):
        outcome = fate(Mutant(kind, seed), in_process=False)
        assert outcome.what in (SERVED, REFUSED), outcome
