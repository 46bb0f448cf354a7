"""Compiling: one signature, and machine code kept between processes only where it is told to be."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.kernels.compiled import Kernel, compiled, reads, writes
from runtime.kernels.output_steps import argmax

TYPES = (reads(np.float32, 2), writes(np.int64, 2))


def compiled_anew(*types: Any) -> Any:
    """As a new process would: past the memory of this one."""
    return compiled.__wrapped__(argmax, *(types or TYPES))


def largest(kernel: Kernel) -> int:
    out = np.empty((1, 1), np.int64)
    kernel(np.array([[1, 3, 2]], np.float32), out)
    return int(out[0, 0])


def test_the_same_request_gives_the_same_code() -> None:
    assert compiled(argmax, *TYPES) is compiled(argmax, *TYPES)


def test_other_types_are_refused_not_compiled() -> None:
    with pytest.raises(TypeError):
        compiled(argmax, *TYPES)(np.zeros((1, 2), np.float64), np.zeros((1, 1), np.int64))


def test_nothing_is_kept_without_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    kernel = compiled_anew()
    assert largest(kernel) == 1
    assert kernel.stats.cache_path is None


class TestKept:
    """With a directory."""

    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        return tmp_path

    def test_the_next_process_loads_what_this_one_compiled(self) -> None:
        first, second = compiled_anew(), compiled_anew()
        assert (first.stats.cache_misses.total(), second.stats.cache_hits.total()) == (1, 1)
        assert largest(second) == 1

    @pytest.mark.parametrize("suffix", ["nbi", "nbc"])
    def test_a_torn_file_is_dropped_and_told(
        self, directory: Path, suffix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        compiled_anew()
        (torn,) = directory.rglob(f"*.{suffix}")
        torn.write_bytes(torn.read_bytes()[:40])
        with caplog.at_level(logging.WARNING, logger="holdfast"):
            assert largest(compiled_anew()) == 1
        assert "kernels.cache" in caplog.text
        assert not list(directory.rglob("*.nb?"))
        compiled_anew()
        assert largest(compiled_anew()) == 1

    def test_what_two_processes_kept_in_one_file_is_dropped_and_told(
        self, directory: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each found the first number free: the index is of the one, the machine code of the other."""
        compiled_anew(reads(np.float64, 2), writes(np.int64, 2))
        (index,), (code,) = directory.rglob("*.nbi"), directory.rglob("*.nbc")
        others = code.read_bytes()
        index.unlink()
        compiled_anew()
        code.write_bytes(others)
        with caplog.at_level(logging.WARNING, logger="holdfast"):
            assert largest(compiled_anew()) == 1
        assert "for other types" in caplog.text
        assert largest(compiled_anew()) == 1
