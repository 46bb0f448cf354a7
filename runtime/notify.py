"""Words to systemd: ready, stopping, still alive.

Knows: the sd_notify protocol (sd_notify(3): datagrams of KEY=VALUE lines to NOTIFY_SOCKET). Rules: does
nothing when the process was not started by systemd. Leaves to others: when to speak.
"""

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> None:
    """Send `lines` such as READY=1 to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    # Best effort, as sd_notify(3) asks: a manager that is gone must not stop the server.
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.connect(name)
        sender.sendall("\n".join(lines).encode())


def watchdog_seconds() -> float | None:
    """How often to send WATCHDOG=1: half the interval systemd asks for; None when it asks for none."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    if not microseconds or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2e6
