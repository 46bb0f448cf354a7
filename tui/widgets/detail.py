"""The long story of the chosen version: why it exists, what it is made of.

Knows: the facts of one version in reading order. Rules: a function of the snapshot; release notes are
shown as text, never as markup. Leaves to others: choosing the version.
"""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui import wording
from tui.snapshot import VersionLine, acceptance


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
        """Show `version`; with room the facts too, else its notes alone."""
        self.border_title = f"Version {version.number}" if version else "Version"
        if (version, wide) != self._shown:
            self._shown = (version, wide)
            self._text.update(_text(version, wide=wide))


def _text(version: VersionLine | None, *, wide: bool) -> Text:
    if version is None:
        return Text("No version is chosen.", style="dim")
    text = Text()
    if version.damage:
        text.append(f"Cannot be read: {version.damage}\n", style="bold red")
    if wide:
        for name, value in _facts(version):
            text.append(f"{name:<12}", style="dim").append(f"{value}\n")
        text.append("\n")
    return text.append(version.release_notes or "No release notes.")


def _facts(version: VersionLine) -> list[tuple[str, str]]:
    return [
        ("Built", wording.moment(version.built)),
        ("Engine", version.engine or wording.NOTHING),
        ("Acceptance", acceptance(version.thresholds) or wording.NOTHING),
        ("Bundle", version.bundle_sha256[:24] or wording.NOTHING),
    ]
