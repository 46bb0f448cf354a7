"""A clock that is set by hand, and records to put into a log."""

import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from pysqlite3 import dbapi2 as sqlite

from appliance.audit.kinds import Inference
from appliance.audit.log import AuditLog
from appliance.signing import SigningKey

GOLDEN = Path(__file__).parents[2] / "golden"


class HandClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000_000_000
        self.monotonic = 5_000_000_000

    def advance(self, seconds: float) -> None:
        self.wall += int(seconds * 1e9)
        self.monotonic += int(seconds * 1e9)

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="session")
def golden() -> ModuleType:
    """The script that makes the golden log, and with it one sample of every record kind."""
    spec = importlib.util.spec_from_file_location("make_audit", GOLDEN / "make_audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def inference() -> Callable[..., Inference]:
    """inference(3) is an answered request called request-3; keywords change its fields."""

    def make(number: int, **changes: object) -> Inference:
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        fields: dict[str, object] = {
            "request_id": f"request-{number}",
            "model": "digits",
            "version": 1,
            "bundle_sha256": digest,
            "engine_sha256": digest,
            "recipe_sha256": digest,
            "route": "active",
            "principal": "",
            "peer": "ipv4:127.0.0.1:50000",
            "rows": 1,
            "input_sha256": digest,
            "output_sha256": digest,
            "outputs": (),
            "vector": bytes(8),
            "queue_ns": number,
            "compute_ns": 1,
            "total_ns": number + 1,
        }
        return Inference(**(fields | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "log.db"


@pytest.fixture
def open_log(path: Path, key: SigningKey, clock: HandClock) -> Callable[..., AuditLog]:
    """Opens the log at `path` as the box would; keywords go to AuditLog.open."""

    def open_it(**options: object) -> AuditLog:
        settings: dict[str, object] = {"key": key, "clock": clock, "boot_id": "boot-1"}
        return AuditLog.open(path, **(settings | options))  # type: ignore[arg-type]

    return open_it


@pytest.fixture
def grown(
    path: Path, open_log: Callable[..., AuditLog], inference: Callable[..., Inference]
) -> Path:
    """A closed log of 600 records: over one subtree's worth, with a checkpoint every 100."""
    with open_log(checkpoint_records=100) as log:
        for start in range(0, 600, 50):
            log.append([inference(number) for number in range(start, start + 50)])
    return path


@pytest.fixture(scope="session")
def tamper() -> Callable[..., None]:
    """tamper(path, statement, values...) is what someone with the file but without the key can do."""

    def run(path: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
        connection = sqlite.connect(str(path), isolation_level=None)
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        for (trigger,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement, values if "?" in statement else ())
        connection.close()

    return run


@pytest.fixture(scope="session")
def write_log(key: SigningKey) -> Callable[[Path, list[Inference]], None]:
    """write_log(path, records) makes a closed log with a checkpoint every ten records."""

    def write(path: Path, records: list[Inference]) -> None:
        options = {"checkpoint_records": 10, "boot_id": "boot-1"}
        with AuditLog.open(path, key=key, clock=HandClock(), **options) as log:
            for start in range(0, len(records), 5):
                log.append(records[start : start + 5])

    return write


@pytest.fixture(scope="session")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
    write_log: Callable[[Path, list[Inference]], None],
    inference: Callable[..., Inference],
) -> Path:
    """A log of 40 records that nobody touched; tests copy it before they do."""
    path = tmp_path_factory.mktemp("whole") / "log.db"
    write_log(path, [inference(number) for number in range(40)])
    return path


@pytest.fixture(scope="session")
def changed(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, tamper: Callable[..., None]
) -> Callable[..., Path]:
    """changed(statement...) is a copy of the whole log with that done to it."""
    directory = tmp_path_factory.mktemp("changed")

    def make(*statements: str, values: tuple[object, ...] = ()) -> Path:
        copy = directory / "log.db"
        shutil.copy(whole, copy)
        tamper(copy, *statements, values=values)
        return copy

    return make


@pytest.fixture(scope="session")
def clock_class() -> type[HandClock]:
    """The clock's class, for what is made once for many tests."""
    return HandClock
