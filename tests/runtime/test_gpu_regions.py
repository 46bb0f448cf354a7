"""Memory of a GPU that clients register: names and limits shared with the system's, bounds, when it is let go."""

from queue import SimpleQueue

import pytest

from appliance.config import SharedMemoryConfig
from appliance.errors import (
    GpuError,
    GpuLost,
    GpuUnusable,
    NotGranted,
    RegionTaken,
    RequestError,
    RequestLimit,
    UnknownRegion,
)
from runtime.regions import Regions
from runtime.shared_memory import close_unused

HANDLE = bytes(range(64))
SIZE = 64


class Emptied(SimpleQueue):
    """A queue from which another thread takes what it has just said to hold."""

    def empty(self):
        return False


def test_two_threads_that_let_go_of_the_same_memory_wait_for_nothing():
    close_unused(Emptied())


class Opened:
    """A client's memory on a GPU that is none."""

    def __init__(self):
        self.data = bytearray(range(SIZE))
        self.closed = 0

    def read(self, offset, size):
        assert size
        return bytes(self.data[offset : offset + size])

    def write(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def close(self):
        self.closed += 1


@pytest.fixture
def gpu():
    """What was opened, and the error that opening raises."""

    class Gpu:
        opened, asked, error = [], [], None

        def share(self, device, handle, size):
            self.asked.append((device, handle, size))
            if self.error:
                raise self.error
            self.opened.append(Opened())
            return self.opened[-1]

    found = Gpu()
    found.opened, found.asked = [], []
    return found


@pytest.fixture
def make(gpu, tmp_path):
    """Regions with a system's object "/holdfast-client-a" and a GPU."""
    (tmp_path / "holdfast-client-a").write_bytes(bytes(SIZE))

    def made(**settings):
        config = SharedMemoryConfig(**{"allowed": True, "cuda_allowed": True, **settings})
        return Regions(config, directory=tmp_path, share=gpu.share)

    return made


def test_it_is_read_and_written_within_its_bounds(make, gpu):
    regions = make()
    regions.register_cuda("g", HANDLE, 1, 32)
    assert gpu.asked == [(1, HANDLE, 32)]
    assert bytes(regions.find("g", 4, 3).read()) == b"\4\5\6"
    assert bytes(regions.find("g", 4, 0).read()) == b""
    regions.find("g", 8, 4).write(b"abcd")
    regions.find("g", 8, 4).write(b"")
    assert gpu.opened[0].data[6:14] == b"\6\7abcd\x0c\x0d"
    for offset, size in ((0, 33), (32, 1), (-1, 1), (2**63, 1)):
        with pytest.raises(RequestError, match="Invalid offset"):
            regions.find("g", offset, size).read()


def test_it_is_let_go_when_nobody_holds_a_piece_any_more(make, gpu):
    regions = make()
    regions.register_cuda("g", HANDLE, 0, 32)
    piece = regions.find("g", 0, 4)
    regions.unregister("g", "CUDA")
    assert not gpu.opened[0].closed
    assert bytes(piece.read()) == b"\0\1\2\3"
    del piece
    regions.unregister("", "CUDA")
    assert gpu.opened[0].closed == 1
    regions.register_cuda("g", HANDLE, 0, 32)
    regions.unregister("g", "CUDA")
    assert gpu.opened[1].closed == 1


def test_both_kinds_share_names_and_limits_but_are_listed_apart(make):
    regions = make(regions_max=2, bytes_max=SIZE)
    regions.register("s", "/holdfast-client-a", 0, 32)
    with pytest.raises(RegionTaken, match="'s' already in manager"):
        regions.register_cuda("s", HANDLE, 0, 1)
    with pytest.raises(RequestLimit):
        regions.register_cuda("g", HANDLE, 0, 33)
    regions.register_cuda("g", HANDLE, 0, 32)
    with pytest.raises(RequestLimit):
        regions.register_cuda("h", HANDLE, 0, 1)
    (system,), (cuda,) = regions.status(""), regions.status("", "CUDA")
    assert (system.name, system.kind, cuda.name, cuda.kind) == ("s", "system", "g", "CUDA")
    with pytest.raises(UnknownRegion, match="'g' is registered as CUDA shared memory, not system"):
        regions.status("g")
    with pytest.raises(UnknownRegion, match="'s' is registered as system shared memory, not CUDA"):
        regions.status("s", "CUDA")
    with pytest.raises(UnknownRegion, match="Unable to find cuda shared memory region: 'x'"):
        regions.status("x", "CUDA")
    regions.unregister("s", "CUDA")
    regions.unregister("")
    assert [region.name for region in regions.status("", "CUDA")] == ["g"]
    assert not regions.status("")


@pytest.mark.parametrize(
    ("handle", "device", "size"),
    [(b"", 0, 1), (HANDLE + b"x", 0, 1), (HANDLE, -1, 1), (HANDLE, 0, 0)],
)
def test_what_cannot_be_is_refused_before_a_gpu_is_asked(make, gpu, handle, device, size):
    with pytest.raises(
        RequestError, match="failed to register shared memory region 'g': invalid args"
    ):
        make().register_cuda("g", handle, device, size)
    assert not gpu.asked


def test_what_the_gpu_refuses_is_a_wrong_argument_but_a_broken_one_is_told(make, gpu):
    regions = make()
    gpu.error = GpuError("no such allocation", remedy="r")
    with pytest.raises(RequestError, match="'g': invalid args"):
        regions.register_cuda("g", HANDLE, 0, 1)
    for error in (GpuLost("lost", remedy="r"), GpuUnusable("none", remedy="r")):
        gpu.error = error
        with pytest.raises(type(error)):
            regions.register_cuda("g", HANDLE, 0, 1)
    assert not regions.status("", "CUDA")


def test_each_kind_is_allowed_by_itself(make):
    only_cuda = make(allowed=False)
    assert only_cuda.allowed
    only_cuda.register_cuda("g", HANDLE, 0, 1)
    assert bytes(only_cuda.find("g", 0, 1).read()) == b"\0"
    with pytest.raises(NotGranted):
        only_cuda.register("s", "/holdfast-client-a", 0, 1)
    only_system = make(cuda_allowed=False)
    with pytest.raises(RequestError, match="GPUs not supported"):
        only_system.register_cuda("g", HANDLE, 0, 1)
    assert not make(allowed=False, cuda_allowed=False).allowed
