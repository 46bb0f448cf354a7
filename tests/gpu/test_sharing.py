"""Memory of clients on a GPU: what they register must not take the GPU from others."""

from typing import NoReturn

import pytest

from appliance.errors import GpuError, GpuLost
from runtime.gpu.sharing import SharedMemory
from tests.gpu.fakes import FakeDevice
from tests.gpu.pretence import Fault, Pretence

HANDLE = bytes(64)


def test_a_handle_that_the_driver_calls_another_context_s_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA_ERROR_INVALID_CONTEXT is among what cuIpcOpenMemHandle returns (cuda.h); everywhere else it is the end."""
    device = FakeDevice()

    def refuses(_handle: bytes) -> NoReturn:
        raise GpuLost("invalid device context", remedy="start again")

    monkeypatch.setattr(device, "open_shared", refuses)
    with pytest.raises(GpuError, match="invalid device context") as refused:
        SharedMemory(device).open(1, HANDLE, 8)
    assert not isinstance(refused.value, GpuLost)


def test_a_gpu_that_is_lost_says_so_here_too() -> None:
    device = FakeDevice(Pretence(faults=(Fault(call="open_shared"),)))
    with pytest.raises(GpuLost):
        SharedMemory(device).open(1, HANDLE, 8)
