"""The acts on a stranger's model: looking at it, sealing it, compiling it.

Knows: what each is told, as data that travels to a child. Rules: importing this room loads no parser and
no engine; an act does nothing but call the room that does it. Leaves to others: the work (`checkup`,
`packing`, `compiling`), what comes of it (`seen`, `found`), the child (`compiler.child`).
"""

# ruff: noqa: PLC0415  the rooms that parse and compile are imported where the act is done
from pathlib import Path

import msgspec

from appliance.manifest import Manifest
from compiler.found import Compiled, Sealed
from compiler.gpu import BoxGpu, held
from compiler.progress import Progress
from compiler.seen import CheckUp
from compiler.spec import Spec


class Look(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Look at the ONNX file `model` before it is packed."""

    model: str

    @classmethod
    def result(cls) -> type[CheckUp]:
        """See Act."""
        return CheckUp

    def perform(self, progress: Progress) -> CheckUp:
        """See `checkup.check_up`."""
        from compiler.checkup import check_up

        progress.stage("looking at the model")
        return check_up(Path(self.model))


class Seal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seal the ONNX file `model` as `spec` says, with its rows in `data`, into `directory`."""

    model: str
    spec: Spec
    data: str
    directory: str

    @classmethod
    def result(cls) -> type[Sealed]:
        """See Act."""
        return Sealed

    def perform(self, progress: Progress) -> Sealed:
        """See `packing.seal`."""
        from compiler.packing import seal

        return seal(Path(self.model), self.spec, Path(self.data), Path(self.directory), progress)


class Compile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Check, compile and prove the extracted bundle in `directory`, on `threads` threads.

    `store` is where engines of earlier versions are found; "" looks for none. `gpu` is the one to build for.
    """

    directory: str
    manifest: Manifest
    threads: int
    store: str
    gpu: BoxGpu | None = None

    @classmethod
    def result(cls) -> type[Compiled]:
        """See Act."""
        return Compiled

    def perform(self, progress: Progress) -> Compiled:
        """See `compiling.compile_staged`."""
        from compiler.compiling.compiling import compile_staged

        with held(self.gpu):
            return compile_staged(
                Path(self.directory),
                self.manifest,
                threads=self.threads,
                store=Path(self.store) if self.store else None,
                progress=progress,
                gpu=self.gpu,
            )
