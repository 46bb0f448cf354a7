"""What an owner's process opens in a test that has TensorRT: the fake of it, on the fake device.

Knows: which release the environment asks for. Rules: the code that runs plans is the real one. Leaves to others: the
fakes.
"""

import os
from functools import cache

from runtime.gpu.device import Device
from runtime.gpu.engine_file import Buffer, Header
from runtime.gpu.execution import Execution
from runtime.gpu.execution import open_execution as real
from tests.gpu.fake_tensorrt import FakeTensorRT

RELEASE = "HOLDFAST_TEST_TENSORRT"  # an environment variable: "10.13"


@cache
def _installed() -> FakeTensorRT:
    fake = FakeTensorRT(os.environ.get(RELEASE, "11.4"))
    fake.install()
    return fake


def open_execution(device: Device, plan: Buffer, header: Header) -> Execution:
    """As `runtime.gpu.execution.open_execution`, with the fake installed for good."""
    _installed().on(device)
    return real(device, plan, header)
