"""The doctor at a box whose log is witnessed."""

from pathlib import Path

import pytest

from appliance.audit.cosignature import cosign
from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import Config, load_config
from appliance.signing import SigningKey
from tui.doctor import Verdict
from tui.doctor.finding import Finding
from tui.doctor.witnesses import examine_witnesses

HOUR_NS = 3600 * 10**9


class Later(SystemClock):
    """A clock that is an hour ahead."""

    def wall_ns(self) -> int:
        return super().wall_ns() + HOUR_NS


@pytest.fixture
def witness(tmp_path: Path) -> SigningKey:
    key = SigningKey.generate()
    key.save(tmp_path / "witness.pem")
    return key


@pytest.fixture
def config(tmp_path: Path, witness: SigningKey) -> Config:
    """A box that asks `witness`, with a log of one record."""
    file = tmp_path / "box.toml"
    file.write_text(
        f'[state]\ndirectory = "{tmp_path / "state"}"\n[[checkpoints.witnesses]]\n'
        f'address = "witness:8001"\nkey = "{tmp_path / "witness.pub"}"\n'
    )
    made = load_config(file)
    write(made, SystemClock())
    return made


def write(config: Config, clock: SystemClock) -> None:
    key = SigningKey.load_or_generate(config.state.box_key)
    with AuditLog.open(config.state.audit_log, key=key, clock=clock) as log:
        log.append([Stop(reason="test")])


def cosigned(config: Config, *witnesses: SigningKey) -> None:
    """Let the witnesses cosign the newest checkpoint."""
    with AuditReader(config.state.audit_log) as log:
        note = log.checkpoints()[-1]
    config.state.cosigned.parent.mkdir(exist_ok=True)
    lines = [cosign(note, key, seconds=1_700_000_000) for key in witnesses]
    config.state.cosigned.write_text(note + "".join(lines))


def found(config: Config) -> Finding:
    (finding,) = examine_witnesses(config)
    assert finding.subject == "witness witness:8001"
    assert bool(finding.remedy) == (finding.verdict is not Verdict.WELL)
    return finding


def test_a_witness_that_keeps_up(config: Config, witness: SigningKey) -> None:
    cosigned(config, witness)
    assert "the first 1 record, at 2023-11-14T22:13:20Z" in found(config).told
    write(config, SystemClock())
    assert found(config).verdict is Verdict.WELL


def test_a_witness_that_fell_behind(config: Config, witness: SigningKey) -> None:
    cosigned(config, witness)
    write(config, SystemClock())
    write(config, Later())
    assert found(config).verdict is Verdict.WARNING
    assert found(config).told.endswith("; the log has 4")  # with the step of the clock


def test_a_witness_that_cosigned_nothing(config: Config) -> None:
    assert "nothing of this log is cosigned" in found(config).told
    cosigned(config, SigningKey.generate())
    assert "it did not cosign" in found(config).told


@pytest.mark.parametrize("other", [False, True], ids=["cut back", "another log"])
def test_a_witness_that_knows_more(config: Config, witness: SigningKey, other: bool) -> None:
    write(config, SystemClock())
    cosigned(config, witness)
    for file in config.state.audit_log.parent.iterdir():
        file.unlink()
    if other:
        config.state.box_key.unlink()
        config.state.box_key.with_suffix(".pub").unlink()
    write(config, SystemClock())
    finding = found(config)
    if other:
        assert "nothing of this log is cosigned" in finding.told
    else:
        assert finding.verdict is Verdict.TROUBLE
        assert finding.told.endswith("; the log has only 1")


def test_a_witness_whose_key_is_not_there(config: Config, tmp_path: Path) -> None:
    (tmp_path / "witness.pub").unlink()
    assert found(config).verdict is Verdict.TROUBLE
    config.state.audit_log.unlink()
    assert list(examine_witnesses(config)) == []
