"""The versions of the chosen model, newest first.

Knows: what tells one version from another at a glance. Rules: a function of the snapshot; a version that
cannot be read says so. Leaves to others: the long story of one version (`tui.widgets.detail`).
"""

from tui import wording
from tui.snapshot import Box, ModelLine, VersionLine, acceptance
from tui.widgets.lines import STRETCH, Column, Line, LineTable

_ROLE_CELLS = 8
_STYLES = {"active": "bold green", "canary": "green", "retired": "dim"}


class VersionTable(LineTable):
    """Every version of one model; `number` is the one under the cursor."""

    def __init__(self) -> None:
        super().__init__(_columns(_ROLE_CELLS), title="Versions", id="versions")
        self._model = ""

    @property
    def number(self) -> int | None:
        """The version under the cursor, None while there is none."""
        return int(self.chosen) if self.chosen else None

    def show_model(self, model: ModelLine | None, box: Box | None) -> None:
        """Show the versions of `model`; another model starts with its newest version."""
        name = model.name if model else ""
        if name != self._model:
            self._model = name
            self.show(())
        tuning = model.tuning if model else None
        tuned = f"; tuned: {wording.tuning(tuning)}" if tuning else ""
        self.border_title = f"Versions of {name}{tuned}" if name else "Versions"
        now_ns = box.taken_wall_ns if box else 0
        lines = [_line(model, version, now_ns) for version in model.versions] if model else []
        self.use_columns(_columns(max([_ROLE_CELLS, *(len(line.texts[1]) for line in lines)])))
        self.show(lines)


def _columns(role_cells: int) -> tuple[Column, ...]:
    return (
        Column(heading="Version", cells=7, align="right"),
        Column(heading="Role", cells=role_cells),
        Column(heading="Loaded", cells=6),
        Column(heading="Engine", cells=11),
        Column(heading="Acceptance", cells=STRETCH),
        Column(heading="Built", cells=10),
    )


def _line(model: ModelLine, version: VersionLine, now_ns: int) -> Line:
    texts = (
        str(version.number),
        "damaged" if version.damage else wording.role(version.role, model.canary_per_mille),
        "yes" if version.loaded else "no",
        version.engine or wording.NOTHING,
        version.damage or acceptance(version.thresholds) or wording.NOTHING,
        wording.ago(version.built, now_ns),
    )
    style = "red" if version.damage else _STYLES.get(version.role, "")
    return Line(key=str(version.number), texts=texts, style=style)
