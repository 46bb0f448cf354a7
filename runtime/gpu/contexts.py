"""The engine's contexts of one lane, one for each set of input shapes.

Knows: which programs use which. Rules: programs of the same shapes share one; it goes with the last of them. Leaves to others: what a
context is (`execution`), where activations lie (`lane`).
"""

from collections.abc import Mapping
from typing import TypeAlias

from runtime.gpu.execution import Context, Execution
from runtime.gpu.program import Execute, Program

Key: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]


class Contexts:
    """Contexts of `execution` for one lane."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._kept: dict[Key, Context] = {}
        self._users: dict[Key, int] = {}

    def take(self, program: Program) -> int:
        """Have contexts for one more program; the bytes of activations that it wants. Raises GpuError."""
        taken: list[Key] = []
        try:
            for key in _keys(program):
                if key not in self._kept:
                    self._kept[key] = self._execution.context(dict(key))
                self._users[key] = self._users.get(key, 0) + 1
                taken.append(key)
        except BaseException:
            self._give(taken)
            raise
        return max((self._kept[key].activation_bytes for key in taken), default=0)

    def give(self, program: Program) -> None:
        """One program less needs them."""
        self._give(_keys(program))

    def of(self, shapes: Mapping[str, tuple[int, ...]]) -> Context:
        """The context for these input shapes, which a program was taken for."""
        return self._kept[_key(shapes)]

    def _give(self, keys: list[Key]) -> None:
        for key in keys:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._kept.pop(key).close()


def _keys(program: Program) -> list[Key]:
    return [_key(step.shapes) for step in program.steps if isinstance(step, Execute)]


def _key(shapes: Mapping[str, tuple[int, ...]]) -> Key:
    return tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
