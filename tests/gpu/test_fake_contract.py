"""The fake of a GPU keeps the contract of devices that the libraries keep."""

import numpy as np
import pytest

from tests.gpu.device_contract import *  # noqa: F403 - the contract
from tests.gpu.fakes import FakeDevice, illegal, module_image


def fill(launched):
    count = int(launched.number(1))
    at = min(count, launched.grid[0] * launched.block[0])
    launched.array(0, np.float32, count)[:at] = launched.number(2)


def add_long(launched):
    launched.array(0, np.int64, 1)[0] += launched.number(1)


trespass = illegal


@pytest.fixture
def device():
    opened = FakeDevice()
    yield opened
    opened.close()


@pytest.fixture
def image():
    return module_image({name: f"{__name__}:{name}" for name in ("fill", "add_long", "trespass")})
