"""A replay's figures, from a log and payloads made here and a version that answers as the test says."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from appliance.audit.kinds import Failure, Inference
from appliance.audit.log import AuditLog
from appliance.audit.payload import Tensor, digest, inline
from appliance.clock import SystemClock
from appliance.config import Config, StateConfig
from appliance.errors import EngineError, EngineLoad, PayloadGone
from appliance.payloads import Payload, PayloadWriter, salted_digest
from appliance.signing import SigningKey
from appliance.tensors import DataType
from runtime.replaying import Replayed
from tui import livereplay
from tui.livereplay import ReplayReport, replay

SALT = b"s" * 32
LARGE = 2000  # values: more than a record holds
Answering = Callable[[Payload, Any], Any]


def tensor(*values: float) -> Tensor:
    data = np.array(values, np.float32).tobytes()
    return Tensor(name="y", datatype=DataType.FP32, shape=(1, len(values)), data=data)


def told(tensors: tuple[Tensor, ...]) -> str:
    return digest((t.name, t.datatype, t.shape, t.data) for t in tensors)


class Box:
    """A log and payloads; `answers` says what each version answers, by number."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = Config(state=StateConfig(directory=str(directory)))
        self.records: list[Inference | Failure] = []
        self.payloads: list[Payload] = []
        self.answers: dict[int, Answering] = {}
        monkeypatch.setattr(livereplay.Replaying, "load", self._load)

    def _load(self, config: Config, model: str, version: int) -> Any:
        if version not in self.answers:
            raise EngineLoad("it does not load", remedy="build it again")
        answer = self.answers[version]

        class Version:
            stored = SimpleNamespace(number=version, record=SimpleNamespace(model=model))

            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                """Nothing is loaded."""

            def answer(self, payload: Payload, states: Any = None) -> Replayed:
                outcome = answer(payload, states)
                return outcome if isinstance(outcome, Replayed) else Replayed(outcome)

        return Version()

    def asked(
        self,
        value: float,
        answered: tuple[Tensor, ...] | None,
        *,
        step: int = 0,
        recorded: bool = True,
    ) -> None:
        """A request of one value that was answered so; None: it failed."""
        number = len(self.payloads)
        inputs = (tensor(value),)
        sha256 = salted_digest(SALT + bytes([number]), told(inputs))
        self.payloads.append(
            Payload(
                sha256=sha256,
                salt=SALT + bytes([number]),
                request_id=f"r-{number}",
                model="m",
                version=1,
                wall_ns=number + 1,
                why="all",
                outputs=(),
                inputs=inputs,
            )
        )
        if not recorded:
            return
        about = {
            "request_id": f"r-{number}",
            "model": "m",
            "version": 1,
            "principal": "",
            "peer": "",
        }
        if answered is None:
            self.records.append(
                Failure(**about, code="engine.failed", message="", payload_sha256=sha256)
            )
            return
        zero = "0" * 64
        self.records.append(
            Inference(
                **about,
                bundle_sha256=zero,
                engine_sha256=zero,
                recipe_sha256=zero,
                route="active",
                rows=1,
                input_sha256=told(inputs),
                output_sha256=told(answered),
                outputs=inline(answered),
                vector=b"",
                queue_ns=0,
                compute_ns=0,
                total_ns=0,
                payload_sha256=sha256,
                sequence="s" if step else "",
                step=step,
            )
        )

    def replay(self, **settings: Any) -> ReplayReport:
        """The figures of version 2."""
        state = self.config.state
        key = SigningKey.load_or_generate(state.box_key)
        with AuditLog.open(state.audit_log, key=key, clock=SystemClock()) as log:
            log.append(self.records)
        writer = PayloadWriter.open(state.payloads)
        writer.put(self.payloads)
        writer.close()
        return replay(self.config, "m", 2, requests=settings.pop("requests", 100), **settings)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def test_answers_are_held_to_those_of_then(box: Box) -> None:
    box.asked(1, (tensor(0.5, 0.1),))
    box.asked(2, (tensor(0.5, 0.1),))
    box.asked(3, (tensor(0.1, 0.5),))
    box.answers[2] = lambda _payload, _states: (tensor(0.5, 0.1),)
    seen: list[tuple[int, int]] = []
    report = box.replay(progress=lambda done, total: seen.append((done, total)))
    assert (report.requests, report.identical, report.differing) == (3, 2, ("r-2",))
    (output,) = report.outputs
    assert (output.rows, output.agreeing) == (3, 2)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_failures_are_told_both_ways(box: Box) -> None:
    box.asked(1, (tensor(1, 2),))
    box.asked(2, None)
    box.asked(3, None)
    fault = EngineError("no", remedy="none")
    box.answers[2] = lambda payload, _: (tensor(1),) if payload.request_id == "r-1" else fault
    report = box.replay()
    assert report.failed == {"engine.failed": 1}
    assert (report.mended, report.still_failed, report.differing) == (1, 1, ("r-0",))


def test_an_answer_too_large_for_the_log_is_made_again_by_its_own_version(box: Box) -> None:
    large, other = (tensor(*range(LARGE)),), (tensor(*range(1, LARGE + 1)),)
    box.asked(1, large)
    box.answers = {1: lambda *_: large, 2: lambda *_: other}
    report = box.replay()
    assert (report.identical, report.unread) == (0, 0)
    assert report.outputs[0].difference_max == 1.0


def test_what_its_own_version_no_longer_gives_is_not_believed(box: Box) -> None:
    large, other = (tensor(*range(LARGE)),), (tensor(*range(1, LARGE + 1)),)
    box.asked(1, large)
    box.asked(2, large)
    box.answers = {1: lambda *_: other, 2: lambda *_: other}
    assert box.replay().unread == 2


def test_a_version_that_is_gone_leaves_its_large_answers_unread(box: Box) -> None:
    box.asked(1, (tensor(*range(LARGE)),))
    box.asked(2, (tensor(*range(LARGE)),))
    box.answers = {2: lambda *_: (tensor(1.0),)}
    assert box.replay().unread == 2


def test_a_payload_without_its_record_is_told(box: Box) -> None:
    box.asked(1, (tensor(1, 2),), recorded=False)
    box.answers[2] = lambda *_: (tensor(1, 2),)
    report = box.replay()
    assert (report.lost, report.identical) == (1, 0)


def test_the_steps_of_a_sequence_follow_each_other(box: Box) -> None:
    for step, total in ((1, 1.0), (2, 3.0), (3, 6.0)):
        box.asked(step, (tensor(total),), step=step)

    def adds(payload: Payload, states: Any) -> Replayed:
        (value,) = np.frombuffer(payload.inputs[0].data, np.float32)
        total = value + (states or {}).get("sum", np.float32(0))
        return Replayed((tensor(total),), {"sum": total})

    box.answers[2] = adds
    assert box.replay().identical == 3


def test_the_end_of_a_sequence_says_nothing_without_its_beginning(box: Box) -> None:
    box.asked(1, (tensor(1.0),), step=1)
    box.asked(2, (tensor(3.0),), step=2)
    box.asked(4, (tensor(9.0),), step=4)
    box.answers[2] = lambda *_: (tensor(3.0),)
    report = box.replay(requests=2)
    assert (report.requests, report.cut_off) == (2, 2)


def test_a_time_without_requests_is_told(box: Box) -> None:
    box.asked(1, (tensor(1.0),))
    with pytest.raises(PayloadGone):
        box.replay(since_ns=100)
