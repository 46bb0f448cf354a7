"""Which inputs are kept, what the record says of them, and what is erased for age and budget."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from appliance.audit.kinds import Erased
from appliance.config import ModelPayloads, PayloadsConfig
from appliance.errors import Overloaded, StateError
from appliance.payloads import PayloadReader, PayloadWriter, salted_digest
from appliance.tensors import DataType, Interface, TensorSpec
from runtime import payloads
from runtime.codec import Call
from runtime.codec import Requested as Asked
from runtime.payloads import DAY_NS, FAILURES_MAX, NO_DIGEST, UPKEEP_SECONDS, PayloadKeeper

X = TensorSpec(name="x", datatype=DataType.FP32, shape=(4,))
TEXT = TensorSpec(name="text", datatype=DataType.BYTES, shape=(1,))
SERVED = Interface(inputs=(X, TEXT), outputs=(X,), batch_max=4)
INPUTS = {
    "text": np.array([[b"caf\xc3\xa9"]], np.object_),
    "x": np.arange(4, dtype=np.float32).reshape(1, 4),
}


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1000 * DAY_NS, 1

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic


class Box:
    """A keeper over a real writer; `erased` is what it had recorded."""

    def __init__(self, file: Path, config: PayloadsConfig, chances: list[float]) -> None:
        self.file, self.clock = file, Hands()
        self.writer = PayloadWriter.open(file)
        self.erased: list[Erased] = []
        self.behind = False
        self.keeper = PayloadKeeper(
            self.writer, config, self.clock, self._record, uniform=lambda: chances.pop(0)
        )

    def _record(self, erased: Erased) -> None:
        if self.behind:
            raise Overloaded("behind", remedy="wait")
        self.erased.append(erased)

    def settle(self) -> None:
        """Wait until everything so far is written."""
        self.keeper.erase("of nobody").result()

    def found(self, sha256: str) -> Any:
        self.settle()
        with PayloadReader(self.file) as reader:
            return reader.find(sha256)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    opened: list[Box] = []

    def open_box(chances: tuple[float, ...] = (), **settings: Any) -> Box:
        file = tmp_path / str(len(opened)) / "payloads.db"
        opened.append(Box(file, PayloadsConfig(**settings), list(chances)))
        return opened[-1]

    yield open_box
    for one in opened:
        one.keeper.close()


def call(request_id: str = "r", model: str = "m") -> Call:
    return Call(
        model=model, version="", request_id=request_id, sent_id="", peer="p",
        outputs=(Asked("x", 2),), timeout_us=0, bytes=1,
    )  # fmt: skip


def stored(names: tuple[str, ...] = (), number: int = 3) -> Any:
    return SimpleNamespace(
        number=number,
        manifest=SimpleNamespace(served=SERVED),
        directory=Path("/nowhere"),
        names=names,
    )


def answer(
    request_id: str = "r", *, confidence: float = 1.0, route: str = "active", model: str = "m"
) -> Any:
    return SimpleNamespace(
        call=call(request_id, model),
        route=SimpleNamespace(reason=route),
        stored=stored(),
        inputs=INPUTS,
        served=SimpleNamespace(
            answer=SimpleNamespace(vectors=np.array([[0.0, confidence]], np.float32))
        ),
    )


@pytest.fixture(autouse=True)
def scores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second value of the drift vector is a confidence."""
    if "unreadable" not in request.node.name:
        monkeypatch.setattr(payloads, "_confidences", lambda _stored: (1,))


def test_an_unreadable_profile_makes_nothing_unsure(box: Callable[..., Box]) -> None:
    at = box(keep="unsure")
    assert at.keeper.answered(answer(confidence=0.1))[1] == ""


def test_age_that_cannot_be_looked_after_is_tried_again(
    box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = box(keep="all")
    at.keeper.answered(answer())

    def broken(_wall_ns: int) -> None:
        raise StateError("no disk", remedy="find one")

    with monkeypatch.context() as patch:
        patch.setattr(at.writer, "erase_before", broken)
        at.clock.wall += 31 * DAY_NS
        at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
        at.settle()
        at.settle()
    assert at.erased == []
    at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
    at.settle()
    at.settle()
    assert [item.count for item in at.erased] == [1]


def test_all_are_kept_as_they_were_sent_and_the_record_vouches_for_them(
    box: Callable[..., Box],
) -> None:
    at = box(keep="all")
    plain, salted = at.keeper.answered(answer())
    kept = at.found(salted)
    assert kept.sha256 == salted_digest(kept.salt, plain)
    assert [(t.name, t.datatype, t.shape) for t in kept.inputs] == [
        ("x", "FP32", (1, 4)),
        ("text", "BYTES", (1, 1)),
    ]
    assert kept.inputs[1].data == b"\x05\0\0\0caf\xc3\xa9"
    assert (kept.request_id, kept.model, kept.version, kept.why) == ("r", "m", 3, "all")
    assert kept.outputs[0].classes == 2
    assert at.keeper.counts() == (1, 0, at.writer.bytes)


@pytest.mark.parametrize(("keep", "digests"), [("none", False), ("digest", True)])
def test_by_default_nothing_is_kept(box: Callable[..., Box], keep: str, digests: bool) -> None:
    at = box(keep=keep)
    plain, salted = at.keeper.answered(answer())
    assert (plain != NO_DIGEST, salted) == (digests, "")
    assert at.keeper.failed(call(), stored(), INPUTS) == ""


@pytest.mark.parametrize("confidence", [0.59, float("nan")])
def test_the_unsure_are_kept_and_the_sure_are_not(
    box: Callable[..., Box], confidence: float
) -> None:
    at = box(keep="unsure", confidence_per_mille_min=600)
    assert at.keeper.answered(answer(confidence=0.61))[1] == ""
    assert at.found(at.keeper.answered(answer(confidence=confidence))[1]).why == "unsure"
    assert at.found(at.keeper.failed(call(), stored(), INPUTS)).why == "failure"


def test_a_sample_is_drawn_by_chance_and_the_unsure_are_kept_beside_it(
    box: Callable[..., Box],
) -> None:
    at = box(keep="sample", sample_per_mille=10, chances=(0.0099, 0.01, 0.5))
    assert at.found(at.keeper.answered(answer(confidence=0.1))[1]).why == "sample"
    assert at.keeper.answered(answer())[1] == ""
    assert at.found(at.keeper.answered(answer(confidence=0.1))[1]).why == "unsure"


def test_a_flood_of_failures_drives_nothing_out(box: Callable[..., Box]) -> None:
    at = box(keep="unsure")
    kept = [at.keeper.failed(call(f"r-{n}"), stored(), INPUTS) for n in range(FAILURES_MAX + 5)]
    assert sum(map(bool, kept)) == FAILURES_MAX
    assert at.keeper.failed(call("r", "other"), stored(), INPUTS)
    at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
    assert at.keeper.failed(call(), stored(), INPUTS)


def test_a_model_may_have_it_otherwise(box: Callable[..., Box]) -> None:
    at = box(keep="none", models={"m": ModelPayloads(keep="all", plain_digest=False)})
    plain, salted = at.keeper.answered(answer())
    assert (plain, len(salted)) == (NO_DIGEST, 64)
    assert at.keeper.answered(answer(model="other")) == (NO_DIGEST, "")


def test_a_shadow_keeps_nothing_twice(box: Callable[..., Box]) -> None:
    at = box(keep="all")
    assert at.keeper.answered(answer(route="shadow"))[1] == ""


def test_what_does_not_fit_is_not_kept_and_counted(box: Callable[..., Box]) -> None:
    at = box(keep="all", request_bytes_max=15)
    assert at.keeper.answered(answer())[1] == ""
    assert at.keeper.missed == 1


def test_a_full_queue_sheds_and_holds_nobody_up(
    box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = box(keep="all", queue_bytes_max=60)
    go, put = threading.Event(), at.writer.put
    monkeypatch.setattr(at.writer, "put", lambda group: (go.wait(), put(group)))
    kept = [at.keeper.answered(answer(f"r-{n}"))[1] for n in range(4)]
    assert [bool(sha256) for sha256 in kept] == [True, True, False, False]
    go.set()
    at.settle()
    assert at.keeper.answered(answer("later"))[1]
    assert at.keeper.missed == 2


def test_a_full_disk_sheds_until_there_is_room(box: Callable[..., Box]) -> None:
    at = box(keep="all")
    at.keeper.shed("the disk is nearly full")
    assert at.keeper.answered(answer())[1] == ""
    at.keeper.shed("")
    assert at.keeper.answered(answer())[1]


def test_a_write_that_fails_costs_that_payload_alone(
    box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = box(keep="all")
    with monkeypatch.context() as broken:
        broken.setattr(at.writer, "put", lambda _group: (_ for _ in ()).throw(OSError("no disk")))
        lost = at.keeper.answered(answer())[1]
        at.settle()
    assert at.found(lost) is None
    assert at.found(at.keeper.answered(answer())[1]) is not None
    assert (at.keeper.kept, at.keeper.missed) == (1, 1)


def test_erasing_takes_what_is_still_on_its_way(box: Callable[..., Box]) -> None:
    at = box(keep="all")
    salted = at.keeper.answered(answer("gone"))[1]
    assert at.keeper.erase("gone").result().models == {"m": 1}
    assert at.found(salted) is None


def test_an_erasure_that_fails_is_told(
    box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = box(keep="all")

    def broken(_request_id: str) -> None:
        raise StateError("no disk", remedy="find one")

    with monkeypatch.context() as patch:
        patch.setattr(at.writer, "erase", broken)
        with pytest.raises(StateError, match="no disk"):
            at.keeper.erase("r").result()


def test_age_is_looked_after_and_recorded_when_the_log_has_time(box: Callable[..., Box]) -> None:
    at = box(keep="all", days_max=30)
    at.keeper.answered(answer())
    at.settle()
    at.clock.wall += 31 * DAY_NS
    at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
    at.behind = True
    at.settle()
    at.settle()
    assert at.erased == []
    at.behind = False
    at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
    at.settle()
    at.settle()
    assert at.erased == [
        Erased(request_id="", model="m", count=1, reason="kept for 30 days", by="")
    ]


def test_the_budget_is_looked_after_at_every_write(box: Callable[..., Box]) -> None:
    at = box(keep="all", bytes_max=1 << 20)
    noise = np.random.default_rng(1)
    for number in range(30):
        large = answer(f"r-{number}")
        large.inputs = {"x": noise.random((1, 16_384)).astype(np.float32), "text": INPUTS["text"]}
        at.keeper.answered(large)
        at.settle()
    assert at.keeper.counts().bytes <= 1 << 20
    assert sum(item.count for item in at.erased) > 10
    assert at.erased[0].reason == "payloads took more than 1048576 bytes"


def test_a_fault_of_our_own_reaches_whoever_waits_and_the_thread_lives_on(
    box: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = box(keep="all")
    with monkeypatch.context() as patch:
        patch.setattr(ours.writer, "erase", lambda _id: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ours.keeper.erase("r").result()
    ours.settle()


def test_a_text_counts_with_its_letters() -> None:
    texts = np.array([b"x" * 1000, b"y" * 500], np.object_)
    assert payloads._bytes(texts) >= 1500
    assert payloads._bytes(np.zeros(4, np.float32)) == 16


def test_an_erasure_left_to_record_is_recorded_when_the_log_has_time(
    box: Callable[..., Box],
) -> None:
    at = box(keep="all")
    erased = Erased(request_id="r", model="m", count=1, reason="asked for", by="alice")
    at.behind = True
    at.keeper.record_later(erased)
    at.clock.monotonic += int(UPKEEP_SECONDS * 1e9)
    at.settle()
    assert at.erased == []
    at.behind = False
    at.keeper.close()
    assert at.erased == [erased]
