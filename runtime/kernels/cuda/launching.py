"""How parts launch: over values, or over rows.

Knows: grids of one axis, and what a part without constants and scratch says. Rules: there is no launch where there is nothing to
do, as a grid of no blocks is refused. Leaves to others: the kernels and their arguments.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from appliance.tensors import TensorSpec
from runtime.gpu.program import Argument, Launch, Long
from runtime.kernels.cuda import KernelSource, Parameter, Shape, blocks_for, symbol

BLOCK: Final = 256  # threads of a kernel whose threads do not wait for each other


class Plain:
    """A part's names; it has one kernel and needs no constants and nothing between kernels, unless it says so."""

    _source: KernelSource

    def __init__(self, reads: tuple[str, ...], makes: tuple[str, ...]) -> None:
        self.reads, self.makes = reads, makes

    def kernels(self) -> tuple[KernelSource, ...]:
        """One."""
        return (self._source,)

    def constants(self, shapes: Mapping[str, Shape]) -> bytes:  # noqa: ARG002
        """None."""
        return b""

    def scratch(self, shapes: Mapping[str, Shape]) -> int:  # noqa: ARG002
        """None."""
        return 0


def source_of(
    function: Callable[..., None],
    parameters: tuple[Parameter, ...],
    constants: Mapping[str, int | float] | None = None,
) -> KernelSource:
    """The kernel of `function`, called by all that it depends on."""
    bound = dict(constants or {})
    name = symbol(function.__name__, *parameters, *(f"{k}{v}" for k, v in bound.items()))
    return KernelSource(name=name, function=function, parameters=parameters, constants=bound)


def over_values(
    source: KernelSource, count: int, *arguments: Argument, numbers: tuple[Argument, ...] = ()
) -> list[Launch]:
    """One thread for each of `count`; the kernel takes `arguments`, the count, then `numbers`."""
    given = (*arguments, Long(count), *numbers)
    return over_rows(source, blocks_for(count, BLOCK) if count else 0, BLOCK, *given)


def over_rows(source: KernelSource, rows: int, threads: int, *arguments: Argument) -> list[Launch]:
    """One block of `threads` for each of `rows`."""
    if rows == 0:
        return []
    grid, block = (rows, 1, 1), (threads, 1, 1)
    return [Launch(kernel=source.name, grid=grid, block=block, arguments=arguments)]


def pointer_to(spec: TensorSpec) -> Parameter:
    """The parameter of a kernel that reads or writes a tensor."""
    pointer: Any = f"{spec.datatype.numpy.name}*"
    parameter: Parameter = pointer
    return parameter
