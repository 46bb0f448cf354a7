"""What the CUDA driver's error codes mean for us.

Knows: which codes leave a context that can do nothing more, which mean that there is no room, that the device cannot be
used at all, or that a module does not fit it (CUresult in cuda.h). Rules: every code becomes exactly one typed error,
which names what was being done, and the driver's own word for it. Leaves to others: who meets the codes.
"""

from appliance.errors import GpuError, GpuLost, GpuMemory, GpuUnusable

OUT_OF_MEMORY = 2
NOT_READY = 600
# cuda.h of 710: "the process must be terminated and relaunched", and the like of the others; 4 and 709: the context is gone;
# 201: it is this thread's no more; 214, 220, 226: memory or links failed under it; 916: the encrypted session ended; 999: the
# driver does not know itself.
LOST = frozenset(
    {4, 201, 214, 220, 226, 700, 702, 709, 710, *range(714, 720), 721, 806, 810, 911, 916, 999}
)
UNUSABLE = frozenset({3, 34, 36, 46, 100, 101, 102, 304, 802, 803, 804, 805, 807, 808, 809})
MISFIT = frozenset({200, 209, 218, 221, 222, 223, 225, 300})

_ECC = frozenset({214, 220, 226})
_LATE = 702
_AGAIN = "the GPU is taken up anew by itself; if this comes again, look for Xid lines with `journalctl -k`"
_BROKEN = "its memory or links failed: see `nvidia-smi -q -d ECC,ROW_REMAPPER`, and have it replaced if this comes again"
_SLOW = "a kernel ran too long: serve on a GPU that drives no display, or ask for smaller batches"


def failure(code: int, name: str, told: str, *, doing: str) -> GpuError:
    """The error for a CUresult: its number, the driver's name and words for it, and what was being done."""
    message = f"the GPU failed while {doing}: {told or 'the driver says no more'} ({name or code})"
    if code in LOST:
        return GpuLost(
            message, remedy=_BROKEN if code in _ECC else _SLOW if code == _LATE else _AGAIN
        )
    if code == OUT_OF_MEMORY:
        return GpuMemory(
            message,
            remedy="retire a version, or give fewer lanes or smaller batches to those that are served",
        )
    if code in UNUSABLE:
        return GpuUnusable(message, remedy="run `holdfast doctor`, which looks at the driver")
    if code in MISFIT:
        return GpuError(
            message, remedy="build the version again on this box, for this GPU and driver"
        )
    return GpuError(
        message, remedy="run `holdfast doctor`; if all is well there, report this with the journal"
    )


def refused_module(error: GpuError, log: str) -> GpuError:
    """`error`, with what the driver's compiler said of the module."""
    words = " ".join(log.replace("\0", " ").split())
    return type(error)(f"{error}: {words}", remedy=error.remedy) if words else error
