"""The one configuration file.

Knows: every setting, its default, its unit and its bounds. Rules: unknown keys are refused with the
nearest known one; every limit is named here with its unit last; without a file the embedded default
runs from ./holdfast-data on loopback. Leaves to others: acting on it.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from appliance.errors import ConfigError
from appliance.files import make_directory
from appliance.tables import canonical_json, read_toml
from appliance.version import ModelName

CONFIG_VARIABLE = "HOLDFAST_CONFIG"
SYSTEM_CONFIG = Path("/etc/holdfast/holdfast.toml")

# gRPC and the system's timers take no more than these.
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=86_400.0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class StateConfig(Section, frozen=True, kw_only=True):
    """Where everything that must survive a restart is kept."""

    directory: str = "./holdfast-data"

    @property
    def root(self) -> Path:
        """The state directory, absolute."""
        return Path(self.directory).absolute()

    @property
    def store(self) -> Path:
        """Where versions are at rest."""
        return self.root / "store"

    @property
    def audit_log(self) -> Path:
        """The audit log's database file."""
        return self.root / "audit" / "log.db"

    @property
    def box_key(self) -> Path:
        """The box's own private key; it signs checkpoints and nothing else."""
        return self.root / "keys" / "box.pem"

    @property
    def trust(self) -> Path:
        """Public keys of those whose bundles this box builds."""
        return self.root / "trust"

    @property
    def control_socket(self) -> Path:
        """The Unix socket of the control service."""
        return self.root / "control.sock"

    @property
    def drift(self) -> Path:
        """Where drift reports are written."""
        return self.root / "drift"

    @property
    def work(self) -> Path:
        """Where bundles are prepared before they are written."""
        return self.root / "work"

    @property
    def build_cache(self) -> Path:
        """Where Numba keeps what builds compiled: a model was at work there, so nothing serves from it."""
        return self.root / "cache" / "numba-build"

    @property
    def kernel_cache(self) -> Path:
        """Where Numba keeps what it compiled on this box."""
        return self.root / "cache" / "numba"


class TlsConfig(Section, frozen=True, kw_only=True):
    """TLS of the inference service, PEM files; without a certificate it speaks plain text.

    With `client_ca` only clients that present a certificate it signed are answered.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = ""


class ServerConfig(Section, frozen=True, kw_only=True):
    """The inference service. Port 0 asks the system for a free one.

    A connection is asked to end after `connection_seconds_max` and clients make a new one; a call that
    is still open `call_seconds_max` later is cut, so that idle calls cannot hold every slot.
    """

    address: str = "127.0.0.1:8001"
    name: str = "holdfast"
    request_bytes_max: Positive = 64 << 20
    requests_in_flight_max: Positive = 1024
    bytes_in_flight_max: Positive = 1 << 30
    metadata_bytes_max: Positive = 16 << 10
    connections_max: Positive = 4096
    connection_seconds_max: Seconds = 600.0
    idle_seconds_max: Seconds = 300.0
    probe_seconds: Seconds = 60.0
    call_seconds_max: Seconds = 60.0
    drain_seconds: Seconds = 20.0
    transport: Literal["fast", "public"] = "fast"
    repository_control: bool = False
    settings_control: bool = False
    tls: TlsConfig = TlsConfig()


class SharedMemoryConfig(Section, frozen=True, kw_only=True):
    """Tensors of clients on this box in POSIX shared memory; off unless allowed.

    Only objects whose key begins with `key_prefix` may be registered, of the runtime's own user or one of
    `owners` (uid).
    """

    allowed: bool = False
    key_prefix: str = "/holdfast-client-"
    owners: tuple[Natural, ...] = ()
    regions_max: Positive = 64
    bytes_max: Positive = 1 << 30


class MetricsConfig(Section, frozen=True, kw_only=True):
    """Prometheus text over HTTP; an empty address turns it off."""

    address: str = "127.0.0.1:9464"


class TracesConfig(Section, frozen=True, kw_only=True):
    """OpenTelemetry traces of requests, by OTLP over gRPC; an empty endpoint turns them off.

    A caller that began a trace (W3C traceparent) says itself whether the request belongs to it.
    """

    endpoint: str = ""
    share_per_mille: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10
    requests_per_second_max: Positive = 50


class QueueConfig(Section, frozen=True, kw_only=True):
    """One priority's queue of a model; 0 means no bound and no timeout of its own.

    A request whose time is over is rejected, or waits behind all that are in time ("delay"). With
    `timeout_override` a request may shorten the timeout for itself.
    """

    requests_max: Natural = 0
    timeout_us_default: Natural = 0
    timeout_override: bool = True
    timeout_action: Literal["reject", "delay"] = "reject"


class ModelBatching(Section, frozen=True, kw_only=True):
    """What one model has otherwise than `BatchingConfig` and `EngineConfig` say; None means as there."""

    rows_max: Positive | None = None
    bucket_rows: tuple[Positive, ...] | None = None
    preferred_rows: tuple[Positive, ...] | None = None
    delay_us_max: Natural | None = None
    queue_requests_max: Positive | None = None
    inline_us_max: Natural | None = None
    engine_seconds_max: Seconds | None = None
    priority_default: Natural | None = None
    queues: tuple[QueueConfig, ...] | None = None
    lanes: Positive | None = None
    threads: Natural | None = None


class BatchingConfig(Section, frozen=True, kw_only=True):
    """Dynamic batching of each model. A delay of 0 batches only what queued while the engine ran.

    `queues` are those of priority 1, the highest, 2 and so on; without any there is one.
    """

    rows_max: Positive = 32
    bucket_rows: tuple[Positive, ...] = ()
    preferred_rows: tuple[Positive, ...] = ()
    delay_us_max: Natural = 0
    queue_requests_max: Positive = 512
    inline_us_max: Natural = 500
    engine_seconds_max: Seconds = 60.0
    priority_default: Natural = 0
    queues: tuple[QueueConfig, ...] = ()
    models: dict[ModelName, ModelBatching] = {}

    def of(self, model: str) -> "BatchingConfig":
        """The settings of one model: its own where it has them."""
        return msgspec.structs.replace(self, models={}, **_own(self, self.models.get(model)))


class EngineConfig(Section, frozen=True, kw_only=True):
    """CPU engines. 0 threads means one a core; each of `lanes` runs batches of one model side by side."""

    threads: Natural = 0
    lanes: Positive = 1


class BuildConfig(Section, frozen=True, kw_only=True):
    """What a pack or build may use of this machine; one build runs at a time and others wait."""

    memory_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 30, le=1 << 50)] = 16 << 30
    seconds_max: Seconds = 3600.0
    wait_seconds_max: Seconds = 3600.0


class AuditConfig(Section, frozen=True, kw_only=True):
    """The audit log. A checkpoint is signed every N records or T seconds, whichever comes first.

    Unless `awaited`, a reply leaves before its record is durable: what a power cut can take is then up to
    `queue_records_max` records of answers that were given.
    """

    awaited: bool = True
    queue_records_max: Positive = 4096
    checkpoint_records: Positive = 1024
    checkpoint_seconds: Seconds = 60.0


class Config(Section, frozen=True, kw_only=True):
    """Every setting of one box."""

    state: StateConfig = StateConfig()
    server: ServerConfig = ServerConfig()
    shared_memory: SharedMemoryConfig = SharedMemoryConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()
    batching: BatchingConfig = BatchingConfig()
    engine: EngineConfig = EngineConfig()
    build: BuildConfig = BuildConfig()
    audit: AuditConfig = AuditConfig()

    def engine_of(self, model: str) -> EngineConfig:
        """The engine's settings of one model: its own where it has them."""
        own = _own(self.engine, self.batching.models.get(model))
        return msgspec.structs.replace(self.engine, **own)

    @property
    def digest(self) -> str:
        """SHA-256 of the settings in canonical form, 64 hex digits; recorded at each boot."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


def _own(section: Section, own: ModelBatching | None) -> dict[str, Any]:
    """Those of a model's own settings that `section` has."""
    told = msgspec.structs.asdict(own) if own else {}
    return {name: told[name] for name in section.__struct_fields__ if told.get(name) is not None}


def load_config(path: Path | None = None, *, state: Path | None = None) -> Config:
    """Read `path`, else the file named by HOLDFAST_CONFIG, else the system's, else the defaults.

    `state` replaces the state directory. Raises ConfigError naming the wrong key; a file that was
    asked for must exist.
    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    if named is None and SYSTEM_CONFIG.exists():
        named = SYSTEM_CONFIG
    config = read_toml(named, Config, ConfigError) if named else Config()
    if state is None:
        return config
    return msgspec.structs.replace(config, state=StateConfig(directory=str(state)))


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" (IPv6 in brackets). Raises ConfigError when it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"'{address}' is not an address", remedy="write host:port, such as 127.0.0.1:8001"
        )
    return host, int(port)


def use_kernel_cache(directory: Path) -> None:
    """Keep compiled kernels in `directory`, unless NUMBA_CACHE_DIR names another place.

    Must run before the first recipe is loaded. Raises StateError when the directory cannot be made.
    """
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(make_directory(directory))
