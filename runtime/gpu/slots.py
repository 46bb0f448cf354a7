"""The host memory that the runtime and a GPU's owner share, one piece a lane.

Knows: an anonymous file of the kernel's, mapped by both. Rules: whole pages; it only grows, and what was mapped before
stays valid and the same memory, so that nobody writes into nothing. Leaves to others: who may write when (`program`:
one run at a time), pinning (`lane`).
"""

import mmap
import os

PAGE = mmap.PAGESIZE


class Slot:
    """Shared memory, from whichever side: `view` is all of it, writable, page-aligned."""

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of an anonymous file."""
        self._descriptor = descriptor
        self.view = memoryview(b"")

    @classmethod
    def made(cls) -> "Slot":
        """A fresh one without any memory yet. Raises OSError."""
        return cls(os.memfd_create("holdfast-slot"))

    @property
    def descriptor(self) -> int:
        """To be sent to the other side."""
        return self._descriptor

    def grow(self, size: int) -> None:
        """Have `size` bytes at least. Raises OSError when the system has no memory."""
        wanted = -(-size // PAGE) * PAGE
        if wanted > self.view.nbytes:
            # Reserved now: a page that cannot be had later would end the process by SIGBUS.
            os.posix_fallocate(self._descriptor, 0, wanted)
            self.view = self.mapped(wanted)

    def mapped(self, size: int) -> memoryview:
        """`size` bytes of it, more than none, which are there; older views stay valid as long as they are held."""
        assert size % PAGE == 0
        return memoryview(mmap.mmap(self._descriptor, size))

    def close(self) -> None:
        """Let go; the memory goes with the last view of either side."""
        self.view = memoryview(b"")
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
