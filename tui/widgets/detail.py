"""The long story of the chosen version: why it exists, what it is made of.

Knows: the facts of one version in reading order. Rules: a function of the snapshot; release notes are
shown as text, never as markup; the screen gives way to it while it has the focus.
Leaves to others: choosing the version, how much way (`console.tcss`).
"""

from collections.abc import Iterable, Iterator

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui import wording
from tui.snapshot import VersionLine, acceptance, threshold_text


class VersionDetail(VerticalScroll):
    """Notes and facts of one version; scrolls when there is more than fits."""

    def __init__(self) -> None:
        super().__init__(id="detail")
        self.border_title = "Version"
        self._text = Static()
        self._shown: tuple[VersionLine | None, bool] | None = None

    def compose(self) -> ComposeResult:
        """One text that scrolls."""
        yield self._text

    def show(self, version: VersionLine | None, *, wide: bool) -> None:
        """Show `version`; with room its facts come first, else its notes."""
        self.border_title = f"Version {version.number}" if version else "Version"
        if (version, wide) != self._shown:
            self._shown = (version, wide)
            self._text.update(_text(version, wide=wide))

    def on_focus(self) -> None:
        """Let the screen give way."""
        self.screen.add_class("-reading")

    def on_blur(self) -> None:
        """Give the room back."""
        self.screen.remove_class("-reading")


def _text(version: VersionLine | None, *, wide: bool) -> Text:
    if version is None:
        return Text("No version is chosen.", style="dim")
    text = Text()
    if version.damage:
        text.append(f"Cannot be read: {version.damage}\n", style="bold red")
    for warning in version.warnings:
        text.append(f"Warning: {warning}\n", style="bold yellow")
    if wide:
        _append(text, _facts(version))
        text.append("\n")
    text.append(version.release_notes or "No release notes.")
    text.append("\n\n")
    if not wide:
        _append(text, _facts(version))
    if version.trials:
        _append(text, _proof(version))
    text.rstrip()
    return text


def _append(text: Text, facts: Iterable[tuple[str, str]]) -> None:
    for name, value in facts:
        text.append(f"{name:<12}", style="dim").append(f"{value}\n")


def _facts(version: VersionLine) -> Iterator[tuple[str, str]]:
    yield "Built", wording.moment(version.built)
    if version.edition is not None:
        yield "Edition", str(version.edition)
    yield "Engine", version.engine_text or wording.NOTHING
    yield "Acceptance", acceptance(version.thresholds) or wording.NOTHING
    yield "Bundle", version.bundle_sha256[:24] or wording.NOTHING


def _proof(version: VersionLine) -> Iterator[tuple[str, str]]:
    """The segments' values, the error against the reference and the engines that were tried."""
    for item in version.thresholds:
        if item.segment:
            yield "Segment", f"{threshold_text(item)}, {wording.plural(item.rows, 'row')}"
    yield "Error", f"{version.error_max:.2g} at most"
    for trial in version.trials:
        tried = f"{trial.engine} {trial.precision}"
        if trial.verdict == "kept":
            yield "Kept", f"{tried} {wording.latency(trial.median_ms)}"
        elif trial.verdict.startswith("["):  # an error's code comes first
            yield "Refused", f"{tried} {trial.verdict}"
        else:
            yield "Tried", f"{tried} {wording.latency(trial.median_ms)}"
