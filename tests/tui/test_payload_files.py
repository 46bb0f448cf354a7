"""Inputs as files: every one is written, whatever the clients' names for them have in common."""

from pathlib import Path

from tui.commands.payload import _write
from tui.picturing import View


def test_names_that_would_be_one_file_are_kept_apart(tmp_path: Path) -> None:
    taken: set[str] = set()
    names = ["a/b.csv", "a_b.csv", "A b.csv", "..", "...", "x", "a_b-2.csv"]
    paths = [
        _write(tmp_path / "seen", View(name=name, data=name.encode(), lines=(), remark=""), taken)
        for name in names
    ]
    assert [path.name for path in paths] == [
        "a_b.csv",
        "a_b-2.csv",
        "A_b-3.csv",
        "input",
        "input-2",
        "x",
        "a_b-2-2.csv",
    ]
    assert [path.read_text() for path in paths] == names
    assert {path.parent for path in paths} == {tmp_path / "seen"}
