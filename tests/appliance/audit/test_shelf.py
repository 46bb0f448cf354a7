"""A reader that looks at the files of a log while they change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit.kinds import Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.resuming import mark_moving
from appliance.audit.segments import Segment, sealed_directory, sealed_path, sealed_segments
from appliance.errors import AuditBroken, StateError


def test_a_first_file_that_is_sealed_while_a_reader_looks_is_found_at_its_new_name(
    open_log: Callable[..., AuditLog],
    inference: Callable[..., Inference],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader saw no sealed file; before it opens the growing one, that has moved and none has followed."""
    with open_log() as log:
        log.append([inference(number) for number in range(5)])
        size = log.size

    def overtaken(live: Path) -> list[Segment]:
        found = sealed_segments(live)
        if live.exists():
            mark_moving(live)
            sealed_directory(live).mkdir()
            live.rename(sealed_path(live, 0, size))
        return found

    monkeypatch.setattr("appliance.audit.shelf.sealed_segments", overtaken)
    with AuditReader(path) as reader:
        assert reader.size() == size
        assert [entry.sequence for entry in reader.records()] == list(range(size))


def test_a_file_that_is_missing_and_stays_so_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no"):
        AuditReader(tmp_path / "log.db")
    sealed_directory(tmp_path / "log.db").mkdir()
    sealed_path(tmp_path / "log.db", 5, 9).touch()
    with pytest.raises(AuditBroken, match="is missing"):
        AuditReader(tmp_path / "log.db")
