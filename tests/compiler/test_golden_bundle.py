"""The bundles that were packed before are verified and built for ever, of both formats.

`tests/golden/make_bundle.py` made it. When a field is added, make a new directory and keep this one.
"""

import shutil
from pathlib import Path

import pytest

from appliance.bundle import open_bundle, verified_manifest
from appliance.config import Config, EngineConfig, StateConfig
from appliance.manifest import Precision
from appliance.trust import TrustStore
from compiler.build import build

GOLDEN = Path(__file__).parent.parent / "golden" / "bundle"
FIRST, SECOND = GOLDEN / "1", GOLDEN / "2"


@pytest.mark.parametrize("golden", [FIRST, SECOND], ids=["format 1", "format 2"])
def test_a_golden_bundle_is_verified_and_built(tmp_path, golden):
    config = Config(
        state=StateConfig(directory=str(tmp_path / "state")), engine=EngineConfig(threads=1)
    )
    config.state.trust.mkdir(parents=True)
    shutil.copy(golden / "engineer.pub", config.state.trust)
    built = build(golden / "golden.holdfast", config, in_process=True)
    manifest, record = built.version.manifest, built.version.record
    assert manifest.precision is Precision.AUTO
    assert {item.segment for item in record.proof.reached} == {"north", "south"}
    assert record.proof.golden_rows == 4


def test_the_first_bundle_reads_as_it_was_meant():
    with open_bundle(FIRST / "golden.holdfast") as file:
        header, manifest = verified_manifest(file, TrustStore.read(FIRST).keys())
    assert (header.format, header.signed_at, manifest.edition) == (1, None, None)
    assert [axis.max for axis in manifest.engine.inputs[0].ranges if axis] == [32, 32]
    assert manifest.calibration is not None
    assert manifest.disturbances[0].level == 0.1


def test_the_second_bundle_reads_as_it_was_meant():
    with open_bundle(SECOND / "golden.holdfast") as file:
        header, manifest = verified_manifest(file, TrustStore.read(SECOND).keys())
    assert (header.format, header.signed_at) == (2, "2026-11-21T08:00:00+00:00")
    assert (manifest.edition, manifest.minimum_release) == (7, "0.1")
    assert manifest.compatible == "golden/any"
    assert {"bom.cdx.json", "source.sig"} < {item.name for item in manifest.files}
