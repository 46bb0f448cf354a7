"""A look at the GPUs asks their owners, which may be busy for seconds: the event loop does not wait for it."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.metrics import Metrics
from runtime.services.control import ControlService


class _Asked(Exception):
    """The owners were asked, on the thread of that name."""


async def test_owners_are_asked_on_a_thread_of_their_own() -> None:
    def owners() -> Any:
        raise _Asked(threading.current_thread() is threading.main_thread())

    parts = dict.fromkeys(
        (
            "addresses",
            "store",
            "table",
            "controlplane",
            "dataplane",
            "recorder",
            "certificates",
            "payloads",
            "feedback",
            "sign_over",
        )
    )
    clock: Any = SimpleNamespace(wall_ns=lambda: 0)
    parts_of_it: dict[str, Any] = {**parts, "clock": clock}
    metrics = Metrics()
    metrics.gpu_owners = owners
    service = ControlService(**parts_of_it, metrics=metrics)
    with pytest.raises(_Asked) as asked:
        await service.Status(None, None)  # type: ignore[arg-type]
    assert asked.value.args == (False,)
