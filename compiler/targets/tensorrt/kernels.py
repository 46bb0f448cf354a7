"""The recipe's kernels for one GPU, compiled beside its plan.

Knows: which sources a version needs. Rules: what is compiled is what the serving code will launch, by the same
split of the recipe; machine code for this GPU, and PTX for later ones; a box that lacks the toolchain still gets its
engine, with the recipe on the CPU, and the report says so. Leaves to others: the split and the sources
(`runtime.kernels.cuda`), launching (`runtime.fusing`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appliance.errors import GpuUnusable, RecipeError
from appliance.manifest import PROFILE_FILE, Manifest
from appliance.profiles import Profile
from appliance.tables import from_json
from runtime.gpu.engine_file import Compiled
from runtime.kernels.cuda import KernelSource


class Kernels(NamedTuple):
    """Modules for the engine file, the names in each, the edition of their sources; a note where there are none."""

    modules: tuple[Compiled, ...] = ()
    names: tuple[str, ...] = ()
    edition: str = ""
    note: str = ""


def kernels_for(directory: Path, manifest: Manifest, capability: tuple[int, int]) -> Kernels:
    """Compile what the recipe of the bundle in `directory` runs on a GPU of `capability`.

    Raises RecipeError when the recipe does not fit its model.
    """
    sources = _sources(directory, manifest)
    if not sources:
        return Kernels(note="the recipe has nothing that runs on the GPU")
    # A second of imports that only a build for a GPU pays.
    from runtime.kernels.cuda.toolchain import compile_kernels, edition  # noqa: PLC0415

    try:
        module = compile_kernels(sources, capability=capability)
    except GpuUnusable as error:
        return Kernels(note=f"the recipe runs on the CPU: {error}")
    return Kernels(
        modules=(
            Compiled("cubin", capability, module.cubin),
            Compiled("ptx", capability, module.ptx),
        ),
        names=module.names,
        edition=edition(),
    )


def _sources(directory: Path, manifest: Manifest) -> Sequence[KernelSource]:
    from runtime.kernels.cuda.splitting import split  # noqa: PLC0415 - as above

    data = (directory / PROFILE_FILE).read_bytes()
    layout = from_json(data, Profile, RecipeError, where=PROFILE_FILE).layout
    found = split(manifest.recipe, manifest.stateless, layout)
    parts = [part for group in found.before.values() for part in group]
    parts += [*found.after, *(item.part for item in found.vector)]
    return [source for part in parts for source in part.kernels()]
