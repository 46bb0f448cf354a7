"""The compiling of a recipe's kernels as an act, for a test behind the fences. Imported by the child by this name."""

from pathlib import Path

import msgspec

from appliance.manifest import Manifest
from compiler.progress import Progress


class Made(msgspec.Struct, frozen=True):
    """What the toolchain made: format, capability and bytes of each module, the names, the edition, the note."""

    modules: tuple[tuple[str, tuple[int, int], bytes], ...]
    names: tuple[str, ...]
    edition: str
    note: str


class MakeKernels(msgspec.Struct, frozen=True):
    """Compile the kernels of the bundle in `directory`."""

    directory: str
    manifest: Manifest
    capability: tuple[int, int]

    @classmethod
    def result(cls) -> type[Made]:
        """See Act."""
        return Made

    def perform(self, progress: Progress) -> Made:
        """See `kernels_for`."""
        from compiler.targets.tensorrt.kernels import kernels_for

        progress.stage("compiling")
        found = kernels_for(Path(self.directory), self.manifest, self.capability)
        modules = tuple((item.format, item.capability, item.image) for item in found.modules)
        return Made(modules, found.names, found.edition, found.note)
