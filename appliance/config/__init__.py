"""The one configuration file.

Knows: every setting, its default, its unit and its bounds, a room for each family of tables. Rules: unknown
keys are refused with the nearest known one; every limit is named here with its unit last; without a file the
embedded default runs from ./holdfast-data on loopback. Leaves to others: acting on it.
"""

import hashlib
import os
from pathlib import Path

import msgspec

from appliance.config.access import AccessConfig, PrincipalConfig
from appliance.config.bundles import BundlesConfig
from appliance.config.checkpoints import (
    CheckpointsConfig,
    WitnessConfig,
    WitnessedLog,
    WitnessPeer,
)
from appliance.config.evidence import AuditConfig, StorageConfig
from appliance.config.gpu import GpuConfig
from appliance.config.models import (
    BatchingConfig,
    BuildConfig,
    EngineConfig,
    GpuBuildConfig,
    ModelBatching,
    QueueConfig,
    own_settings,
)
from appliance.config.payloads import ModelPayloads, PayloadsConfig
from appliance.config.section import Section
from appliance.config.sequences import SequencesConfig
from appliance.config.serving import (
    MetricsConfig,
    ServerConfig,
    SharedMemoryConfig,
    TlsConfig,
    TracesConfig,
)
from appliance.config.state import StateConfig
from appliance.errors import ConfigError
from appliance.files import make_directory
from appliance.tables import canonical_json, read_toml

__all__ = [
    "AccessConfig",
    "AuditConfig",
    "BatchingConfig",
    "BuildConfig",
    "BundlesConfig",
    "CheckpointsConfig",
    "Config",
    "EngineConfig",
    "GpuBuildConfig",
    "GpuConfig",
    "MetricsConfig",
    "ModelBatching",
    "ModelPayloads",
    "PayloadsConfig",
    "PrincipalConfig",
    "QueueConfig",
    "Section",
    "SequencesConfig",
    "ServerConfig",
    "SharedMemoryConfig",
    "StateConfig",
    "StorageConfig",
    "TlsConfig",
    "TracesConfig",
    "WitnessConfig",
    "WitnessPeer",
    "WitnessedLog",
    "load_config",
    "split_address",
    "use_kernel_cache",
]

CONFIG_VARIABLE = "HOLDFAST_CONFIG"
SYSTEM_CONFIG = Path("/etc/holdfast/holdfast.toml")


class Config(Section, frozen=True, kw_only=True):
    """Every setting of one box."""

    state: StateConfig = StateConfig()
    server: ServerConfig = ServerConfig()
    access: AccessConfig = AccessConfig()
    shared_memory: SharedMemoryConfig = SharedMemoryConfig()
    metrics: MetricsConfig = MetricsConfig()
    traces: TracesConfig = TracesConfig()
    batching: BatchingConfig = BatchingConfig()
    sequences: SequencesConfig = SequencesConfig()
    engine: EngineConfig = EngineConfig()
    gpu: GpuConfig = GpuConfig()
    build: BuildConfig = BuildConfig()
    bundles: BundlesConfig = BundlesConfig()
    audit: AuditConfig = AuditConfig()
    storage: StorageConfig = StorageConfig()
    payloads: PayloadsConfig = PayloadsConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    witness: WitnessConfig = WitnessConfig()

    def engine_of(self, model: str) -> EngineConfig:
        """The engine's settings of one model: its own where it has them."""
        return msgspec.structs.replace(
            self.engine, **own_settings(self.engine, self.batching.models.get(model))
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the settings in canonical form, 64 hex digits; recorded at each boot."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


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
    if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
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
