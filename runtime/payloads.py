"""Which requests' inputs are kept, and the one thread that writes them.

Knows: the ladder of `[payloads] keep`, the queue in front of the writer, age and budget. Rules: whether a
payload is kept is decided as its record is made, so the record says it; writing holds up no request: what
does not fit the queue is not kept, and counted; what is erased is recorded. Leaves to others: the files
(`appliance.payloads`), when the disk is too full to keep any (whoever calls `shed`).
"""

import random
import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from appliance import journal
from appliance.audit.kinds import Erased
from appliance.audit.payload import Tensor
from appliance.clock import Clock
from appliance.config import PayloadsConfig
from appliance.errors import ApplianceError, Overloaded, StateError
from appliance.manifest import PROFILE_FILE
from appliance.payloads import (
    SALT_BYTES,
    Payload,
    PayloadWriter,
    Removed,
    Requested,
    Why,
    salted_digest,
)
from appliance.profiles import Profile
from appliance.store import StoredVersion
from appliance.tables import from_json
from appliance.tensors import Array, DataType
from runtime.codec import Call, raw_view
from runtime.evidence import Answered, inputs_digest
from runtime.metrics import Payloads
from runtime.servable import Inputs

UPKEEP_SECONDS = 60.0
GROUP_MAX = 1024
# Nobody waits for a payload, and a commit costs the same for one and for many.
GATHER_SECONDS = 0.05
FAILURES_MAX = 20  # of a model that are kept a minute; fewer than are recorded singly
DAY_NS = 86_400 * 10**9
NO_DIGEST = "0" * 64  # what a record holds where the configuration wants no plain digest
_UNKEPT = ("none", "digest")

Job: TypeAlias = Callable[[], None]
# Has an Erased recorded; raises Overloaded when the log is behind.
Record: TypeAlias = Callable[[Erased], None]


class _Waiting(NamedTuple):
    """Inputs on their way to the writer."""

    call: Call
    stored: StoredVersion
    inputs: Inputs
    salt: bytes
    sha256: str
    why: Why
    wall_ns: int
    bytes: int


class PayloadKeeper:
    """Keeps what the settings say; `answered` and `failed` run on the recorder's thread, all else on any."""

    def __init__(
        self,
        writer: PayloadWriter,
        config: PayloadsConfig,
        clock: Clock,
        record: Record,
        *,
        uniform: Callable[[], float] = random.random,
        salt: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`uniform` draws from [0, 1) for the sample; `salt` makes so many bytes that nobody can guess."""
        self._writer, self._config, self._clock, self._record = writer, config, clock, record
        self._uniform, self._salt = uniform, salt
        self._of = {model: config.of(model) for model in config.models}
        self._queue: SimpleQueue[_Waiting | Job | None] = SimpleQueue()
        self._hurry = threading.Event()  # somebody waits for what is queued
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._shed = ""
        self._unrecorded: Counter[tuple[str, str]] = Counter()
        self._asked_for: deque[Erased] = deque()
        self._kept_up_ns = clock.monotonic_ns()
        self._failures: dict[str, tuple[int, int]] = {}  # by model: since when, and how many
        self.kept = self.missed = 0
        self._thread = threading.Thread(target=self._work, name="payloads", daemon=True)
        self._thread.start()

    def counts(self) -> Payloads:
        """What was kept and missed since the start, and the bytes of all that is kept."""
        return Payloads(self.kept, self.missed, self._writer.bytes)

    def shed(self, reason: str) -> None:
        """Keep nothing from now on because of `reason`, such as a full disk; "" keeps again."""
        if reason != self._shed:
            journal.event("payloads.shed", reason=reason)
        self._shed = reason

    def answered(self, answered: Answered) -> tuple[str, str]:
        """The plain and the salted digest for the record of an answer, whose inputs are kept if they are to be.

        A shadow's answer is to inputs that another record tells of.
        """
        config = self._settings(answered.call.model)
        if config.keep == "none":
            return NO_DIGEST, ""
        plain = inputs_digest(answered.inputs, answered.stored.manifest.served)
        why = None
        if config.keep not in _UNKEPT and answered.route.reason != "shadow":
            why = self._why(answered, config)
        shown = plain if config.plain_digest else NO_DIGEST
        if why is None:
            return shown, ""
        return shown, self._keep(answered.call, answered.stored, answered.inputs, plain, why)

    def failed(self, call: Call, stored: StoredVersion, inputs: Inputs) -> str:
        """The salted digest for the record of a failure, whose inputs are kept if they are to be."""
        if self._settings(call.model).keep in _UNKEPT or self._many_failed(call.model):
            return ""
        plain = inputs_digest(inputs, stored.manifest.served)
        return self._keep(call, stored, inputs, plain, "failure")

    def _many_failed(self, model: str) -> bool:
        """Whether enough failures of a model were kept this minute: a flood must not drive out all else."""
        now_ns = self._clock.monotonic_ns()
        began_ns, count = self._failures.get(model, (now_ns, 0))
        if now_ns - began_ns >= UPKEEP_SECONDS * 1e9:
            began_ns, count = now_ns, 0
        self._failures[model] = (began_ns, count + 1)
        return count >= FAILURES_MAX

    def erase(self, request_id: str) -> "Future[Removed]":
        """Erase every payload of a request, also those on their way; StateError comes by the future."""
        told: Future[Removed] = Future()
        self._queue.put(partial(_run, told, partial(self._writer.erase, request_id)))
        self._hurry.set()
        return told

    def record_later(self, erased: Erased) -> None:
        """Have an erasure that somebody asked for recorded as soon as the log takes it."""
        self._asked_for.append(erased)

    def close(self) -> None:
        """Write what is queued and close the writer; blocks until that is done."""
        self._shed = "closed"
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()
        self._writer.close()

    def _settings(self, model: str) -> PayloadsConfig:
        return self._of.get(model, self._config)

    def _why(self, answered: Answered, config: PayloadsConfig) -> Why | None:
        if config.keep == "all":
            return "all"
        if config.keep == "sample" and self._uniform() * 1000 < config.sample_per_mille:
            return "sample"
        columns = _confidences(answered.stored)
        least = config.confidence_per_mille_min / 1000
        found = answered.served.answer.vectors[:, columns] if columns else _NONE
        # A confidence that is not a number is no confidence.
        return "unsure" if not (found >= least).all() else None

    def _keep(self, call: Call, stored: StoredVersion, inputs: Inputs, plain: str, why: Why) -> str:
        """Queue the inputs for the writer and return their salted digest, "" when there is no room."""
        size = sum(map(_bytes, inputs.values()))
        with self._lock:
            room = self._config.queue_bytes_max - self._queued_bytes
            fits = not self._shed and size <= min(room, self._config.request_bytes_max)
            if not fits:
                self.missed += 1
                return ""
            self._queued_bytes += size
        salt = self._salt(SALT_BYTES)
        sha256 = salted_digest(salt, plain)
        wall_ns = self._clock.wall_ns()
        self._queue.put(_Waiting(call, stored, inputs, salt, sha256, why, wall_ns, size))
        return sha256

    def _work(self) -> None:
        while self._work_once():
            pass
        self._record_erased()

    def _work_once(self) -> bool:
        """Write what waits, in its order, and look after age and budget; False when all is written."""
        group, job, going = self._next()
        if group:
            self._write(group)
        if job is not None:
            job()
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._kept_up_ns >= UPKEEP_SECONDS * 1e9:
            self._kept_up_ns = now_ns
            self._keep_up()
        return going

    def _next(self) -> tuple[list[_Waiting], Job | None, bool]:
        """What waits up to the next job, gathered for a moment; and whether there will be more."""
        group: list[_Waiting] = []
        with suppress(Empty):
            item = self._queue.get(timeout=UPKEEP_SECONDS)
            if isinstance(item, _Waiting) and self._queue.qsize() < GROUP_MAX:
                # Not woken by every payload that comes meanwhile: each time would cost the requests.
                self._hurry.wait(GATHER_SECONDS)
            while True:
                if item is None:
                    return group, None, False
                if not isinstance(item, _Waiting):
                    self._hurry.clear()
                    return group, item, True
                group.append(item)
                if len(group) >= GROUP_MAX:
                    break
                item = self._queue.get_nowait()
        return group, None, True

    def _write(self, group: list[_Waiting]) -> None:
        try:
            self._writer.put([_payload(item) for item in group])
            self.kept += len(group)
        except Exception as error:  # noqa: BLE001 - the thread must outlive any fault; the log is not affected
            self.missed += len(group)
            journal.failure("payloads.failed", error, payloads=len(group))
        finally:
            with self._lock:
                self._queued_bytes -= sum(item.bytes for item in group)
        most = self._config.bytes_max
        self._look_after(
            partial(self._writer.erase_over, most), f"payloads took more than {most} bytes"
        )

    def _keep_up(self) -> None:
        before_ns = self._clock.wall_ns() - self._config.days_max * DAY_NS
        old = f"kept for {self._config.days_max} days"
        self._look_after(partial(self._writer.erase_before, before_ns), old)
        self._look_after(self._writer.fold, "")
        self._record_erased()

    def _look_after(self, act: Callable[[], Removed], reason: str) -> None:
        try:
            self._erase(act, reason)
        except Exception as error:  # noqa: BLE001 - as in _write
            journal.failure("payloads.failed", error)

    def _erase(self, act: Callable[[], Removed], reason: str) -> None:
        removed = act()
        for model, count in removed.models.items():
            self._unrecorded[model, reason] += count
        if removed.models:
            self._record_erased()
        if removed.error is not None:
            raise removed.error

    def _record_erased(self) -> None:
        """Have it recorded what was erased unrecorded; tried again while the log is behind."""
        for _ in range(len(self._asked_for)):  # a log that fails gives them back meanwhile
            try:
                self._record(self._asked_for[0])
            except Overloaded:
                return
            self._asked_for.popleft()
        for (model, reason), count in list(self._unrecorded.items()):
            try:
                self._record(Erased(request_id="", model=model, count=count, reason=reason, by=""))
            except Overloaded:
                return
            del self._unrecorded[model, reason]


_NONE = np.ones(0, np.float32)


def _run(told: "Future[Removed]", act: Callable[[], Removed]) -> None:
    try:
        told.set_result(act())
    except Exception as error:  # noqa: BLE001 - whoever waits for it would do so for ever
        told.set_exception(error)


def _bytes(array: Array) -> int:
    """What a tensor takes in memory, texts with what they refer to."""
    return array.nbytes + (sum(map(len, array.flat)) if array.dtype == object else 0)


def _payload(item: _Waiting) -> Payload:
    served = item.stored.manifest.served
    return Payload(
        sha256=item.sha256,
        salt=item.salt,
        request_id=item.call.request_id,
        model=item.call.model,
        version=item.stored.number,
        wall_ns=item.wall_ns,
        why=item.why,
        outputs=tuple(Requested(output.name, output.classes) for output in item.call.outputs),
        inputs=tuple(
            _tensor(spec.name, item.inputs[spec.name], spec.datatype)
            for spec in served.inputs
            if spec.name in item.inputs
        ),
    )


def _tensor(name: str, array: Array, datatype: DataType) -> Tensor:
    data = cast("bytes", raw_view(array, datatype))
    return Tensor(name=name, datatype=datatype, shape=array.shape, data=data)


@cache
def _columns(profile: Path) -> tuple[int, ...]:
    """Where in the drift vector a version's confidences are; none where its profile cannot be read."""
    try:
        layout = from_json(profile.read_bytes(), Profile, StateError, where=PROFILE_FILE).layout
    except (ApplianceError, OSError) as error:
        journal.failure("payloads.failed", error)
        return ()
    return tuple(at for at, name in enumerate(layout.names) if name.endswith(".confidence"))


def _confidences(stored: StoredVersion) -> tuple[int, ...]:
    return _columns(stored.directory / PROFILE_FILE)
