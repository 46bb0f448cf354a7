"""A stand-in for the module `tensorrt` that is held to a dump of the real one, with enough life to build and serve.

Knows: how a dump becomes classes. Rules: what the dump lacks is an AttributeError, a call that does not fit its
signature a TypeError, a property that cannot be set an AttributeError; what the real library offers and nothing here
does is NotImplementedError, so that no test passes by accident. Leaves to others: what the objects do
(`fake_objects` and the rooms beside it), the dumps (`dump_api`).

    fake = FakeTensorRT("10.13")        .on(device), .module is what to import, .refusals etc. plant what goes wrong
    with fake.installed(): ...          the module under its name in sys.modules
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.gpu import fake_building, fake_engines, fake_layers, fake_objects, fake_parsing
from tests.gpu.api_calls import Signature, accepts, bound, parse
from tests.gpu.fake_objects import World

DUMPS = Path(__file__).parent / "dumps"
RELEASES = ("10.3", "10.13", "10.16", "11.0", "11.4")
LEAN = "lean-11.4"
NAMES = ("tensorrt", "tensorrt_bindings", "tensorrt_lean", "tensorrt_lean_bindings")


@cache
def _dump(release: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DUMPS / f"{release}.json").read_text())
    return found


class FakeTensorRT(World):
    """One release, and the world that its objects live in (see `fake_objects.World`)."""

    def __init__(self, release: str = "11.4") -> None:
        dump = _dump(release)
        lean = release.startswith("lean")
        super().__init__(release=release, version=dump["version"], lean=lean)
        name = "tensorrt_lean" if self.lean else "tensorrt"
        self.module: Any = ModuleType(name)
        self.module.__version__ = dump["version"]
        self.classes: dict[str, Any] = {}
        for key, told in dump["classes"].items():
            self._class(key, told, dump["classes"])
        for key, members in dump["enums"].items():
            self._place(key, _enumeration(key.rpartition(".")[2], members))
        for key, member in dump["constants"].items():
            kind, _, value = member.rpartition(".")
            self._set(key, getattr(self.classes[kind], value))
        for key, signatures in dump["functions"].items():
            setattr(self.module, key, self._function(key, [parse(one) for one in signatures]))
        self.module.DataType.itemsize = property(lambda it: fake_objects.ITEM_BYTES[it.name])

    @contextmanager
    def installed(self) -> Iterator["FakeTensorRT"]:
        """This module, and no other TensorRT, is what `import` finds inside."""
        before = {name: sys.modules.get(name) for name in NAMES}
        self.install()
        try:
            yield self
        finally:
            for name, module in before.items():
                if module is None:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = module

    def on(self, device: Any) -> "FakeTensorRT":
        """Let contexts run on this fake device (`tests.gpu.fakes`): in its streams, over its memory."""
        self.memory = lambda pointer, size: memoryview(device.memory(pointer, size))
        self.enqueue = device._queues.add
        return self

    def install(self) -> None:
        """As `installed`, for good: for a child process."""
        sys.modules.update(dict.fromkeys(NAMES))  # type: ignore[arg-type]  # None: cannot be imported
        sys.modules[self.module.__name__] = self.module

    def make(self, name: str, does: object) -> Any:
        """An object of the class `name` that `does` what it is told, however little can construct one."""
        kind = self.classes[name]
        made = kind.__new__(kind, *([does.data] if issubclass(kind, bytes) else []))  # type: ignore[attr-defined]
        object.__setattr__(made, "_does", does)
        return made

    def member(self, kind: str, name: str) -> Any:
        """A member of an enumeration."""
        return getattr(self.classes[kind], name)

    def _class(self, name: str, told: dict[str, Any], every: dict[str, Any]) -> None:
        """Make the class `name` and, before it, those it stands on."""
        if name in self.classes:
            return
        for base in told["bases"]:
            self._class(base, every[base], every)
        bases = tuple(self.classes[base] for base in told["bases"]) or (
            (_Held, bytes) if name == "IHostMemory" else (_Held,)
        )
        body: dict[str, Any] = {"__module__": self.module.__name__, "_rw": {}}
        for key, (gives, takes) in told["properties"].items():
            body[key] = self._property(name, key, gives, takes)
        for key, signatures in told["methods"].items():
            parsed = [parse(one) for one in signatures]
            body[key] = (
                self._constructor(name, parsed)
                if key == "__init__"
                else self._method(name, key, parsed)
            )
        if name == "IHostMemory":
            body["__len__"] = _no_length
        self._place(name, _HeldType(name.rpartition(".")[2], bases, body))

    def _constructor(self, name: str, signatures: list[Signature]) -> Callable[..., None]:
        def construct(it: Any, *arguments: object, **keywords: object) -> None:
            if not signatures:
                raise TypeError(f"{name}: No constructor defined!")
            given = bound(f"{name}.__init__", signatures, self.classes, arguments, keywords)
            object.__setattr__(it, "_does", _behaviour(name)(self, **given))

        return construct

    def _method(self, name: str, key: str, signatures: list[Signature]) -> Callable[..., Any]:
        def call(it: Any, *arguments: object, **keywords: object) -> Any:
            given = bound(f"{name}.{key}", signatures, self.classes, arguments, keywords)
            does = getattr(it._does, key, None)
            if does is None:
                raise NotImplementedError(f"the fake's {name}.{key} does nothing")
            return does(**given)

        call.__name__ = key
        return call

    def _property(self, name: str, key: str, gives: str, takes: str) -> property:
        def read(it: Any) -> Any:
            if gives == "-":
                raise AttributeError(f"unreadable attribute '{name}.{key}'")
            try:
                return getattr(it._does, key)
            except AttributeError:
                raise NotImplementedError(f"the fake's {name}.{key} says nothing") from None

        def write(it: Any, value: object) -> None:
            if value is not None and not accepts(takes, value, self.classes):
                raise TypeError(f"{name}.{key} takes {takes}, not {value!r}")
            setattr(it._does, key, value)

        return property(read, None if takes == "-" else write)

    def _function(self, name: str, signatures: list[Signature]) -> Callable[..., Any]:
        def call(*arguments: object, **keywords: object) -> Any:
            given = bound(name, signatures, self.classes, arguments, keywords)
            does = getattr(fake_objects, f"module_{name}", None)
            if does is None:
                raise NotImplementedError(f"the fake's {name} does nothing")
            return does(self, **given)

        return call

    def _place(self, name: str, kind: type) -> None:
        self.classes[name] = kind
        self._set(name, kind)

    def _set(self, name: str, value: object) -> None:
        """Put `value` at "Name" of the module, or at "Outer.Inner"."""
        outer, _, inner = name.rpartition(".")
        setattr(self.classes[outer] if outer else self.module, inner, value)


def _behaviour(name: str) -> Any:
    """The class that does what `name` does in the library; one that does nothing for those that users derive from."""
    for room in (fake_objects, fake_building, fake_parsing, fake_engines, fake_layers):
        if name in vars(room):
            return vars(room)[name]
    return fake_objects.Nothing


class _HeldType(type):
    """pybind11's rule: who derives from a class of the library must call its __init__."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        made = super().__call__(*arguments, **keywords)
        if "_does" not in made.__dict__:
            raise TypeError(f"{cls.__name__}.__init__() must be called when overriding __init__")
        return made


class _Held:
    """What all classes share: nothing can be set that the library does not have."""

    def __setattr__(self, name: str, value: object) -> None:
        own = isinstance(getattr(type(self), name, None), property)
        if not own and type(self).__module__.startswith("tensorrt"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


def _no_length(it: object) -> int:
    raise TypeError("object of type 'IHostMemory' has no len(): use nbytes")


def _enumeration(name: str, members: dict[str, int]) -> type:
    """An enumeration as pybind11 makes them: no numbers, but they can be turned into one."""

    class Enumeration:
        def __init__(self, value: int) -> None:
            if not isinstance(value, int) or value not in members.values():
                raise TypeError(f"{name}: incompatible constructor arguments")
            self.value = value
            self.name = next(key for key, number in members.items() if number == value)

        def __int__(self) -> int:
            return self.value

        __index__ = __int__

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other) and self.value == other.value  # type: ignore[attr-defined]

        def __hash__(self) -> int:
            return hash(self.value)

        def __repr__(self) -> str:
            return f"<{name}.{self.name}: {self.value}>"

    Enumeration.__name__ = Enumeration.__qualname__ = name
    made: Any = {key: Enumeration(value) for key, value in members.items()}
    for key, value in made.items():
        value.name = key
        setattr(Enumeration, key, value)
    Enumeration.__members__ = made  # type: ignore[attr-defined]
    return Enumeration
