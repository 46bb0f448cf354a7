"""One promise of devices on a real GPU: run by test_device_contract.py, in a process of its own for each."""

import os

import pytest

from runtime.gpu.opening import open_device
from tests.gpu.device_contract import *  # noqa: F403 - the contract
from tests.gpu.device_contract import PTX


@pytest.fixture
def image():
    return PTX


@pytest.fixture
def device():
    # Never closed: a broken context cannot be, and the process ends.
    return open_device("0", os.environ["HOLDFAST_GPU_LIBRARY"])
