"""What a kernel sees: the device in place of `gpu`, its form's constants, and device functions.

Knows: which names of a function are whose. Rules: the function itself is never changed, so that tests run it as it is; a callee is
copied once for the same constants. Leaves to others: which device (`toolchain`, and the tests' own), compiling.
"""

import builtins
from collections.abc import Callable, Mapping
from types import CellType, FunctionType
from typing import Any, Final, TypeAlias

from runtime.kernels.cuda import KernelSource, gpu

KERNELS_OF: Final = "runtime.kernels"  # functions of these rooms become device functions

Callees: TypeAlias = dict[tuple[FunctionType, tuple[tuple[str, int | float], ...]], Any]


def bound(
    source: KernelSource,
    device: Any,
    device_function: Callable[[FunctionType], Any],
    callees: Callees | None = None,
) -> FunctionType:
    """The kernel with `gpu` bound to `device`, its constants in place, and its callees as device functions."""
    binding = Binding(device, device_function, source.constants, {} if callees is None else callees)
    return binding.copy_of(_plain(source.function))


class Binding:
    """Copies of functions that see what a kernel sees; callees made under the same constants are made once."""

    def __init__(
        self,
        device: Any,
        device_function: Callable[[FunctionType], Any],
        constants: Mapping[str, int | float],
        callees: Callees,
    ) -> None:
        self._device, self._device_function = device, device_function
        self._constants, self._callees = constants, callees
        self._key = tuple(sorted(constants.items()))

    def copy_of(self, function: FunctionType) -> FunctionType:
        """A copy of `function` with its globals and its closure as a kernel sees them."""
        code = function.__code__
        known = [name for name in code.co_names if name in function.__globals__]
        names = {name: self._seen(name, function.__globals__[name]) for name in known}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        closure = tuple(CellType(self._seen(name, cell.cell_contents)) for name, cell in cells)
        names |= {"__name__": function.__module__, "__builtins__": builtins}
        copy = FunctionType(code, names, function.__name__, function.__defaults__, closure)
        copy.__module__ = function.__module__
        return copy

    def _seen(self, name: str, value: Any) -> Any:
        if name in self._constants:
            return self._constants[name]
        if value is gpu:
            return self._device
        callee = _plain(value)
        if not isinstance(callee, FunctionType) or not callee.__module__.startswith(KERNELS_OF):
            return value
        key = callee, self._key
        if key not in self._callees:
            self._callees[key] = self._device_function(self.copy_of(callee))
        return self._callees[key]


def _plain(value: Any) -> Any:
    """The Python function behind a compiled one."""
    return getattr(value, "py_func", value)
