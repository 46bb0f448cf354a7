"""The bundle that release 0.1 packed is verified and built for ever.

`tests/golden/make_bundle.py` made it. When a field is added, make a new directory and keep this one.
"""

import shutil
from pathlib import Path

from appliance.bundle import open_bundle, trusted_keys, verified_manifest
from appliance.config import Config, EngineConfig, StateConfig
from appliance.manifest import Precision
from compiler.build import build

FIRST = Path(__file__).parent.parent / "golden" / "bundle" / "1"


def test_the_bundle_of_the_first_release_is_verified_and_built(tmp_path):
    config = Config(
        state=StateConfig(directory=str(tmp_path / "state")), engine=EngineConfig(threads=1)
    )
    config.state.trust.mkdir(parents=True)
    shutil.copy(FIRST / "engineer.pub", config.state.trust)
    built = build(FIRST / "golden.holdfast", config, in_process=True)
    manifest, record = built.version.manifest, built.version.record
    assert manifest.precision is Precision.AUTO
    assert {item.segment for item in record.proof.reached} == {"north", "south"}
    assert record.proof.golden_rows == 4


def test_the_first_bundle_reads_as_it_was_meant():
    with open_bundle(FIRST / "golden.holdfast") as file:
        _, manifest = verified_manifest(file, trusted_keys(FIRST))
    assert [axis.max for axis in manifest.engine.inputs[0].ranges if axis] == [32, 32]
    assert manifest.calibration is not None
    assert manifest.disturbances[0].level == 0.1
