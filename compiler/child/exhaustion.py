"""Memory that ran out, recognised whoever met it.

Knows: the words in which libraries say it. Rules: one error for all of them, which names the setting.
Leaves to others: the bound itself (`fences`).
"""

import re

from appliance.errors import BuildLimit

# C++, ONNX Runtime, OpenVINO, numpy, Numba, Python.
_WORDS = re.compile(
    r"bad_alloc|bad allocation|MemoryError|[Cc]annot allocate memory|[Uu]nable to allocate"
    r"|[Ff]ailed to allocate memory|[Oo]ut of memory"
)


def exhausted(text: str) -> BuildLimit | None:
    """The error, when `text`, a library's words, says that memory ran out."""
    return out_of_memory() if _WORDS.search(text) else None


def out_of_memory() -> BuildLimit:
    """The error of an act that asked for more memory than it may have."""
    return BuildLimit(
        "the model needs more memory than a build may use",
        remedy="raise memory_bytes_max in [build], or use a smaller model or batch_max",
    )
