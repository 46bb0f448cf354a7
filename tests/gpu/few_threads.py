"""Parts whose blocks have one thread: where every thread of a kernel is one of Python's, 128 of them only cost time.

Knows: which parts let that be said. Rules: the kernels are the same but for that number, and so are their results.
"""

import inspect
from types import ModuleType
from typing import Any

from runtime.kernels.cuda import scores, suppression, vectors

ROOMS: tuple[ModuleType, ...] = (scores, suppression, vectors)


def defaults() -> list[dict[str, Any]]:
    """The keyword defaults of every part that has "threads" among them."""
    classes = [kind for room in ROOMS for _, kind in inspect.getmembers(room, inspect.isclass)]
    found = [vars(kind).get("__init__") for kind in classes]
    told = [getattr(made, "__kwdefaults__", None) or {} for made in found]
    return [each for each in told if "threads" in each]


def set_for_good() -> None:
    """For a process of a test's own."""
    for each in defaults():
        each["threads"] = 1
