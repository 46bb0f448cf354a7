"""A disk that fills: told, then payloads shed, then refused or a gap; and the other way round."""

import errno
import os

import pytest

from appliance.config import StateConfig, StorageConfig
from appliance.errors import StorageFull
from runtime.storage import Level, StorageWatch


class Parts:
    """What the watch acts on, and the disk it looks at."""

    def __init__(self, tmp_path, **settings):
        self.refusing, self.gap, self.reason = None, "", ""
        self.free = 1000
        self.state = StateConfig(directory=str(tmp_path))
        config = StorageConfig(
            warn_bytes_free=800,
            shed_bytes_free=600,
            stop_bytes_free=400,
            **({"ballast_bytes": 100} | settings),
        )
        self.watch = StorageWatch(
            config,
            self.state,
            dataplane=self,
            omissions=self,
            payloads=self,
            free=lambda _: self.free,
        )

    def shed(self, reason):
        self.reason = reason

    @property
    def ballast(self):
        return self.state.audit_log.parent / "ballast"


def test_each_threshold_does_what_it_says_and_undoes_it(tmp_path):
    parts = Parts(tmp_path)
    parts.watch.begin()
    assert (parts.watch.level, parts.ballast.stat().st_size) == (Level.AMPLE, 100)
    parts.free = 799
    parts.watch.look()
    assert (parts.watch.level, parts.reason, parts.refusing) == (Level.WARN, "", None)
    parts.free = 599
    parts.watch.look()
    assert parts.watch.level is Level.SHED
    assert "599 bytes are free" in parts.reason
    parts.free = 399
    parts.watch.look()
    assert parts.watch.level is Level.STOP
    assert isinstance(parts.refusing, StorageFull)
    assert not parts.ballast.exists()
    parts.free = 450  # what the ballast gave back does not end it
    parts.watch.look()
    assert parts.watch.level is Level.STOP
    parts.free = 1000
    parts.watch.look()
    assert (parts.watch.level, parts.reason, parts.refusing) == (Level.AMPLE, "", None)
    assert parts.ballast.stat().st_size == 100
    parts.watch.close()
    assert not parts.ballast.exists()


def test_with_leave_for_gaps_requests_are_answered(tmp_path):
    parts = Parts(tmp_path, when_full="gap")
    parts.free = 10
    parts.watch.begin()
    assert parts.refusing is None
    assert "bytes are free" in parts.gap
    parts.free = 5000
    parts.watch.look()
    assert parts.gap == ""


def test_a_ballast_that_does_not_fit_is_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    parts = Parts(tmp_path)
    parts.watch.begin()
    assert not parts.ballast.exists()


def test_no_ballast_is_laid_down_when_none_is_wanted(tmp_path):
    parts = Parts(tmp_path, ballast_bytes=0)
    parts.watch.begin()
    assert not parts.ballast.exists()


def test_thresholds_are_in_order():
    with pytest.raises(ValueError, match="must hold"):
        StorageConfig(warn_bytes_free=1, shed_bytes_free=2)


def test_a_look_that_comes_after_the_stop_lays_no_ballast_down_again(tmp_path):
    parts = Parts(tmp_path)
    parts.watch.begin()
    parts.watch.close()
    parts.watch._tried()
    assert not parts.ballast.exists()
