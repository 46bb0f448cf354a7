"""What every target can do: compile a model for this box.

Knows: the Target protocol and how a refusal reads. Rules: a target writes one engine file and nothing
else; what it cannot do is named by node, operator and reason before anything is compiled; what it built
computes in the precision asked for, or is refused. Leaves to others: the typed graph
(`compiler.precision`), loading the file and its stamp (`runtime.engines`), proving and choosing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from appliance.errors import EngineBuild
from appliance.files import sha256_file
from appliance.manifest import Precision
from appliance.store import EngineEntry, EngineKind
from appliance.tensors import Interface
from runtime.engines import stamp_of
from runtime.engines.loading import library_text

if TYPE_CHECKING:  # onnx is imported where something is compiled, not where targets are only listed
    from compiler.opening.source import Source

_NAMED_MAX = 5  # refusals that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a target does not take a model: the node or tensor, its operator, and the reason."""

    node: str
    op: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op} '{self.node}' {self.reason}"


class Target(Protocol):
    """Compiles ONNX into one kind of engine."""

    @property
    def kind(self) -> str:
        """The kind of engine it makes, as in the table of `runtime.engines`."""

    def stamp(self) -> dict[str, str]:
        """What an engine compiled now is stamped with; one with another stamp does not fit."""

    def unable(self, precision: Precision) -> str | None:
        """Why this library computes nothing in `precision` on this box, None when it does."""

    def refusals(
        self, source: "Source", interface: Interface, precision: Precision
    ) -> tuple[Refusal, ...]:
        """What in the model this target cannot compute as `interface` promises; nothing is compiled."""

    def compile(
        self,
        source: "Source",
        directory: Path,
        interface: Interface,
        threads: int,
        precision: Precision,
    ) -> EngineEntry:
        """Compile a model lowered to `precision` into a file in `directory`, for `threads` threads.

        Raises EngineBuild when the library cannot take the model or computes it in another precision;
        StateError when the disk refuses.
        """


def engine_entry(
    kind: EngineKind,
    path: Path,
    precision: Precision,
    bounds: dict[str, tuple[int, int]] | None = None,
) -> EngineEntry:
    """What a version's record says of the engine file `path`, made here and now."""
    return EngineEntry(
        kind=kind,
        precision=precision,
        file=path.name,
        sha256=sha256_file(path),
        stamp=stamp_of(kind),
        bounds=bounds or {},
    )


def refuse(library: str, refusals: Sequence[Refusal]) -> None:
    """Raise EngineBuild naming the first of `refusals`, if there are any."""
    if refusals:
        named = "; ".join(map(str, refusals[:_NAMED_MAX]))
        more = f"; and {len(refusals) - _NAMED_MAX} more" if len(refusals) > _NAMED_MAX else ""
        raise EngineBuild(
            f"{library} does not take the model: {named}{more}",
            remedy="change these in the model, or leave it to the other engine",
        )


def failed(library: str, error: Exception) -> EngineBuild:
    """The error of a model that `library` does not compile."""
    return EngineBuild(
        f"{library} cannot compile the model: {library_text(error)}",
        remedy="export the model with the operators that the engine supports",
    )
