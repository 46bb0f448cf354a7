"""The disk of the state directory: how full it is, and what that means for what is kept and answered.

Knows: the thresholds, and the ballast. Rules: what will happen at each threshold is journalled at the start, and each
crossing when it happens; the log comes before payloads, and a record before an answer unless the configuration says
otherwise. Leaves to others: refusing (`runtime.dataplane`), gaps (`runtime.omissions`), payloads
(`runtime.payloads`).

The ballast is a file that holds space nobody else can take. It is given up when the disk is full, so that decisions,
refusals and the stop can still be recorded, and laid down again when there is room.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from appliance import journal
from appliance.config import StateConfig, StorageConfig
from appliance.errors import ApplianceError, StorageFull
from appliance.files import bytes_free, make_directory

LOOK_SECONDS = 1.0
BALLAST = "ballast"


class Level(IntEnum):
    """How full the disk is: what happens there happens at all higher ones too."""

    AMPLE = 0
    WARN = 1
    SHED = 2
    STOP = 3


class Answering(Protocol):
    """What the watch needs of `runtime.dataplane.DataPlane`."""

    refusing: ApplianceError | None


class Omitting(Protocol):
    """What the watch needs of `runtime.omissions.Omissions`."""

    gap: str


class Shedding(Protocol):
    """What the watch needs of `runtime.payloads.PayloadKeeper`."""

    def shed(self, reason: str) -> None:
        """Keep no payloads because of `reason`; "" keeps them again."""


class StorageWatch:
    """Looks at the disk again and again; `free` tells how many bytes are left on it."""

    def __init__(
        self,
        config: StorageConfig,
        state: StateConfig,
        *,
        dataplane: Answering,
        omissions: Omitting,
        payloads: Shedding,
        free: Callable[[Path], int] = bytes_free,
    ) -> None:
        self._config = config
        self._root = state.root
        self._ballast = state.audit_log.parent / BALLAST
        self._dataplane, self._omissions, self._payloads = dataplane, omissions, payloads
        self._free = free
        self.level = Level.AMPLE
        self.bytes_free = 0
        self._failed = self._closed = False
        # A look may be under way on its thread when the runtime stops.
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Say what happens when, and look for the first time."""
        config = self._config
        journal.event(
            "storage.thresholds",
            warn_bytes_free=config.warn_bytes_free,
            shed_bytes_free=config.shed_bytes_free,
            stop_bytes_free=config.stop_bytes_free,
            ballast_bytes=config.ballast_bytes,
            when_full="requests are refused"
            if config.when_full == "refuse"
            else "requests are answered without a record, and counted as a gap",
        )
        self._tried()

    async def keep_looking(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._tried)

    def look(self) -> None:
        """See how full the disk is and act on it. Raises OSError when the file system does not tell."""
        held = self._held()
        # As if the ballast were there, so that giving it up does not end what it was given up for.
        self.bytes_free = self._free(self._root) - (self._config.ballast_bytes - held)
        level = self._level(self.bytes_free)
        if level is not self.level:
            self._cross(level)
        if level is Level.STOP:
            self._ballast.unlink(missing_ok=True)
        elif level <= Level.WARN and held < self._config.ballast_bytes:
            self._lay_down()

    def close(self) -> None:
        """Give the ballast up: what is written while the runtime stops has room, and nothing is held after."""
        with self._lock, suppress(OSError):
            self._closed = True
            self._ballast.unlink(missing_ok=True)

    def _tried(self) -> None:
        try:
            with self._lock:
                if not self._closed:
                    self.look()
        except (OSError, ApplianceError) as error:
            if not self._failed:
                journal.failure("storage.unknown", error)
            self._failed = True
        else:
            self._failed = False

    def _level(self, free: int) -> Level:
        config = self._config
        if free < config.stop_bytes_free:
            return Level.STOP
        if free < config.shed_bytes_free:
            return Level.SHED
        return Level.WARN if free < config.warn_bytes_free else Level.AMPLE

    def _cross(self, level: Level) -> None:
        worse, self.level = level > self.level, level
        told = f"{self.bytes_free} bytes are free on the disk of the state directory"
        error = StorageFull(told, remedy="free space, or move the state directory to a larger disk")
        if worse:
            journal.failure("storage.filling", error, threshold=level.name.lower())
        else:
            journal.event("storage.freed", threshold=level.name.lower(), bytes_free=self.bytes_free)
        self._payloads.shed(told if level >= Level.SHED else "")
        full = level is Level.STOP
        if self._config.when_full == "refuse":
            self._dataplane.refusing = error if full else None
        else:
            self._omissions.gap = told if full else ""

    def _held(self) -> int:
        try:
            return self._ballast.stat().st_size
        except FileNotFoundError:
            return 0

    def _lay_down(self) -> None:
        make_directory(self._ballast.parent)
        handle = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._config.ballast_bytes)
        except OSError:
            with suppress(OSError):
                self._ballast.unlink()
            raise
        finally:
            os.close(handle)
