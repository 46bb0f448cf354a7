"""What the screens show at one tick, frozen.

Knows: the shape of a look at one box. Rules: a screen is a function of one snapshot and asks nobody
else; versions come newest first; a number nobody knows is None. Leaves to others: making it from replies
(`tui.replies`), rates over time (`tui.history`).
"""

from dataclasses import dataclass
from enum import StrEnum

from appliance.commands import printable
from appliance.deployment import Deployment, Tuning
from appliance.errors import ApplianceError, WitnessRefused
from tui import wording


class Link(StrEnum):
    """How the console stands with the runtime."""

    CONNECTING = "connecting"
    SERVING = "serving"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error as it is shown: stable code, what happened, what to do next."""

    code: str
    message: str
    remedy: str

    @classmethod
    def told(cls, error: ApplianceError) -> "Trouble":
        """The trouble that `error` tells of."""
        return cls(code=error.code, message=printable(str(error)), remedy=printable(error.remedy))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look in the past: `seconds` before the newest (0 or less), rates and latencies then."""

    seconds: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """An acceptance threshold of a version and the value its engine reached on `rows` held-out rows.

    A share has a `minimum`, an error a `maximum`. A threshold by segment stands here once for each value
    of the column `segment`, which is "" where all rows count together.
    """

    metric: str
    output: str
    minimum: float | None
    reached: float
    maximum: float | None = None
    segment: str = ""
    segment_value: str = ""
    rows: int = 0

    @property
    def spare(self) -> float:
        """How far the value is on the right side of what was asked."""
        if self.maximum is not None:
            return self.maximum - self.reached
        return self.reached - (self.minimum or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An engine that was tried at the build; `median_ms` of one row, 0 when it was not measured."""

    engine: str
    precision: str
    median_ms: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """One version of a model. `built` is RFC 3339 UTC; `damage` is empty when it can be read.

    `error_max` is the engine's largest absolute error against the reference; `edition` is how its maker
    counts what was packed of the model, None where that was not said.
    """

    number: int
    role: str
    loaded: bool
    engine: str
    bundle_sha256: str
    built: str
    release_notes: str
    thresholds: tuple[Threshold, ...]
    damage: str
    precision: str = ""
    error_max: float = 0.0
    warnings: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    edition: int | None = None

    @property
    def engine_text(self) -> str:
        """The engine with its precision, such as "openvino int8"."""
        return f"{self.engine} {self.precision}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Counters of one model since the runtime's start; rates per second, None after one look."""

    answered: int = 0
    failed: int = 0
    rows: int = 0
    batches: int = 0
    queued: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    requests_per_second: float | None = None
    course: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One model: which versions play which role, and its traffic.

    `canary_per_mille` is the share of the requests that the canary answers, 0 without one; `tuning` is None
    where the settings of the box hold.
    """

    name: str
    active: int | None
    previous: int | None
    versions: tuple[VersionLine, ...]
    traffic: Traffic = Traffic()
    canary: int | None = None
    canary_per_mille: int = 0
    shadow: int | None = None
    tuning: Tuning | None = None

    @property
    def deployment(self) -> Deployment:
        """The roles, as the deployment rules take them."""
        retired = sorted(line.number for line in self.versions if line.role == "retired")
        return Deployment(
            model=self.name,
            active=self.active,
            previous=self.previous,
            retired=tuple(retired),
            canary=self.canary,
            canary_per_mille=self.canary_per_mille,
            shadow=self.shadow,
            tuning=self.tuning,
        )

    @property
    def accompanied(self) -> bool:
        """Whether a canary or a shadow is running."""
        return self.canary is not None or self.shadow is not None

    def version(self, number: int) -> VersionLine | None:
        """The version called `number`, None when there is none."""
        return next((line for line in self.versions if line.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateLine:
    """A certificate that the inference service uses; `state` in words, "valid" while nothing is to be done."""

    what: str
    name: str
    not_after_ns: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedWay:
    """A way out, or a witness, that the newest checkpoint did not get to, and why."""

    way: str
    trouble: str
    code: str = ""
    remedy: str = ""

    @property
    def alarming(self) -> bool:
        """Whether it says that the log was changed, and not only that something is away."""
        return self.code == WitnessRefused.code


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLine:
    """A GPU that engines are loaded on; None for what it does not tell.

    `state` is its owner's; `busy` the share of the last moment in which a kernel ran; `throttled` what slows it down.
    """

    device: str
    name: str
    state: str
    trouble: str = ""
    restarts: int = 0
    engines: int = 0
    memory_free_bytes: int = 0
    memory_bytes: int = 0
    busy: float | None = None
    celsius: int | None = None
    watts: float | None = None
    throttled: tuple[str, ...] = ()
    ecc_uncorrected: int | None = None

    @property
    def called(self) -> str:
        """Its name in the settings, short enough for a line."""
        return self.device if len(self.device) <= 12 else f"{self.device[:12]}…"

    @property
    def failing(self) -> str:
        """What is wrong with it, as the rest of a sentence, "" when nothing is."""
        if self.state != "ready" or self.trouble:
            return f"is {self.state}: {self.trouble}".rstrip(": ")
        if self.ecc_uncorrected:
            return f"has {wording.plural(self.ecc_uncorrected, 'uncorrected memory error')}"
        return f"is slowed down: {', '.join(self.throttled)}" if self.throttled else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The runtime as a whole. Times are Unix nanoseconds; `audit_failure` is empty when all is well."""

    release: str
    address: str
    metrics_address: str
    taken_wall_ns: int
    started_wall_ns: int
    draining: bool
    audit_records: int
    audit_queue: int
    audit_failure: str
    certificates: tuple[CertificateLine, ...] = ()
    certificates_failure: str = ""
    gpus: tuple[GpuLine, ...] = ()
    checkpoints_blocked: tuple[BlockedWay, ...] = ()

    @property
    def expiring(self) -> tuple[CertificateLine, ...]:
        """The certificates that somebody must do something about."""
        return tuple(item for item in self.certificates if item.state != "valid")

    @property
    def uptime_seconds(self) -> float:
        """Seconds from the runtime's start to this look."""
        return (self.taken_wall_ns - self.started_wall_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look. `box` is None and `models` empty unless the link is SERVING or DRAINING."""

    link: Link
    box: Box | None = None
    models: tuple[ModelLine, ...] = ()
    trouble: Trouble | None = None

    def model(self, name: str) -> ModelLine | None:
        """The model called `name`, None when there is none."""
        return next((line for line in self.models if line.name == name), None)


def acceptance(thresholds: tuple[Threshold, ...]) -> str:
    """What was reached against what was asked, such as "accuracy 0.973 >= 0.950".

    Of a threshold by segment the value that is nearest to missing it, with its segment.
    """
    nearest: dict[tuple[str, str, str], Threshold] = {}
    for item in sorted(thresholds, key=lambda item: item.spare):
        nearest.setdefault((item.metric, item.output, item.segment), item)
    told = [item for item in thresholds if item in nearest.values()]
    return ", ".join(threshold_text(item) for item in told)


def threshold_text(item: Threshold) -> str:
    """One value against what was asked, such as "accuracy 0.951 >= 0.900 (site = north)"."""
    sign, asked = (">=", item.minimum or 0.0) if item.maximum is None else ("<=", item.maximum)
    where = f" ({item.segment} = {item.segment_value})" if item.segment else ""
    return f"{item.metric} {item.reached:.3f} {sign} {asked:.3f}{where}"


CONNECTING = Snapshot(link=Link.CONNECTING)


def unreachable(error: ApplianceError) -> Snapshot:
    """The snapshot of a look that failed with `error`."""
    return Snapshot(link=Link.UNREACHABLE, trouble=Trouble.told(error))
