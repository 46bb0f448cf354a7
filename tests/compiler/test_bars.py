"""Progress: stages with a time estimate on a terminal, nothing elsewhere."""

import io

import pytest

from compiler.bars import progress_bars
from compiler.build import build
from compiler.pack import pack
from compiler.progress import Silent


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard error a terminal, from within the test; returns what is written to it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def terminal() -> io.StringIO:
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return terminal


def act(progress) -> None:
    progress.stage("opening")
    progress.stage("running", 10)
    progress.step(4)
    progress.step()


def test_stages_are_shown_on_a_terminal(terminal):
    stream = terminal()
    with progress_bars() as progress:
        act(progress)
    shown = stream.getvalue()
    assert "\x1b[32m" in shown
    assert "opening" in shown
    assert "10/10" in shown


def test_no_colour_is_honoured(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = terminal()
    with progress_bars() as progress:
        act(progress)
    assert "\x1b[32m" not in stream.getvalue()
    assert "10/10" in stream.getvalue()


def test_elsewhere_nothing_is_shown(capsys):
    with progress_bars() as progress:
        assert isinstance(progress, Silent)
        act(progress)
    assert capsys.readouterr().err == ""


def test_packing_and_building_tell_their_stages(workshop):
    stages = []

    class Listing(Silent):
        def stage(self, name, steps=1):
            stages.append((name, steps))

    pack(workshop.model, workshop.spec, workshop.bundle, key=workshop.key, progress=Listing())
    build(workshop.bundle, workshop.config, progress=Listing())
    assert stages.count(("running the held-out rows", 60)) >= 2
    assert stages[-1] == ("filing the version", 1)
