"""The box itself: its state directory, key, log, disk, clock, runtime and ports.

Knows: what must hold on the machine that the box runs on. Rules: reads only; the log is opened, not verified, which
`holdfast audit verify` does. Leaves to others: the TLS files (`tui.doctor.files`), the GPUs (`gpu`), the witnesses
(`witnesses`), the way to a box (`remote`).
"""

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance.audit.checkpoint import open_checkpoint, read_checkpoint
from appliance.audit.reader import AuditReader
from appliance.clock import Clock, timestamp
from appliance.config import Config, StateConfig, split_address
from appliance.errors import ApplianceError, AuditBroken, StateError, Unreachable
from appliance.keys import BoxKeys
from appliance.sealing import is_sealed_here
from runtime.client import ControlClient
from tui.doctor.files import examine_files
from tui.doctor.finding import Finding, failed, trouble, warning, well
from tui.doctor.gpu import examine_gpus
from tui.doctor.timekeeping import examine_clock
from tui.doctor.witnesses import examine_witnesses
from tui.entry import check_entry
from tui.replies import blocked_from_wire

FREE_BYTES_MIN, FREE_SHARE_MIN = 256 << 20, 0.05
OTHERS = stat.S_IRWXO


def examine_box(config: Config, clock: Clock) -> Iterator[Finding]:
    """Look at the box that `config` describes, one thing after the other."""
    yield well("settings", f"read; their digest is {config.digest[:16]}")
    state = config.state
    try:
        check_entry(state)
    except StateError as error:
        # Files, store and control socket are out of reach: only what lies elsewhere can be looked at.
        yield failed("state directory", error)
        yield from _elsewhere(config, clock)
        return
    if not state.root.is_dir():
        yield trouble(
            "state directory",
            f"{state.root} is not there",
            "start the runtime once, or name another with --state or [state] directory",
        )
    else:
        yield _directory(state)
        yield from _log_and_key(state, clock)
        yield from examine_witnesses(config)
        yield _disk(state)
    yield from _elsewhere(config, clock)
    yield from examine_gpus(config)
    yield from _runtime(config)


def _elsewhere(config: Config, clock: Clock) -> Iterator[Finding]:
    """What does not lie in the state directory."""
    yield from examine_clock(clock)
    yield from examine_files(config.server.tls, clock)


def _directory(state: StateConfig) -> Finding:
    subject, status = "state directory", state.root.stat()
    if status.st_mode & OTHERS:
        told = f"{state.root} is open to every user of this machine"
        return warning(subject, told, f"chmod o-rwx {state.root}")
    return well(subject, f"{state.root} is there")


def _log_and_key(state: StateConfig, clock: Clock) -> Iterator[Finding]:
    try:
        keys = None if _is_closed(state.box_key) else BoxKeys(state)
    except ApplianceError as error:
        yield failed("box key", error)
        return
    log_is_there = state.audit_log.exists()
    if keys is None:
        told = f"{state.box_key} may not be read by this user, so it was not held to the log"
        yield warning("box key", told, "run this as root, or as the runtime's user")
    elif state.box_key.exists() and state.box_key.stat().st_mode & (stat.S_IRWXG | OTHERS):
        told = f"{state.box_key} may be read by others than its owner"
        yield trouble("box key", told, f"chmod 600 {state.box_key}, and `holdfast key rotate`")
    if not log_is_there:
        if state.box_key.with_suffix(".pub").exists():
            told = f"the box had a log, and {state.audit_log} is gone"
            yield trouble("audit log", told, "restore it from its copy")
        else:
            yield well("audit log", "none yet: the first start begins it")
        return
    try:
        with AuditReader(state.audit_log) as reader:
            last, notes = reader.tail(1), reader.checkpoints()
    except ApplianceError as error:
        yield failed("audit log", error)
        return
    if keys is not None:
        yield from _key(keys, notes)
    if not last:
        yield well("audit log", "it holds no record yet")
        return
    written = timestamp(last[0].wall_ns)[:19]
    yield well("audit log", f"opens; its last record is {last[0].sequence}, of {written}Z")
    if last[0].wall_ns > clock.wall_ns():
        told = f"the clock is behind the log, whose last record is of {written}Z"
        yield trouble("clock", told, "set the clock; certificates and records depend on it")


def _is_closed(key: Path) -> bool:
    """Whether the key is there, and this user, such as an operator by group, may not read it."""
    try:
        return key.exists() and not os.access(key, os.R_OK)
    except PermissionError:
        return True


def _key(keys: BoxKeys, notes: list[str]) -> Iterator[Finding]:
    if keys.current is None:
        if is_sealed_here():
            yield well("box key", "sealed; the service manager hands it to the runtime")
        else:
            remedy = "restore it from its copy; without one see `holdfast key lost`"
            yield trouble("box key", "it is lost: there is a log, and no key", remedy)
        return
    for key in keys.all():
        try:
            open_checkpoint(notes[-1], key.public, origin=read_checkpoint(notes[-1]).origin)
        except AuditBroken:
            continue
        waits = key is not keys.following and keys.following is not None
        told = f"{key.public.key_id[:16]} signs the log"
        yield well("box key", f"{told}; a new one waits for the next start" if waits else told)
        return
    told = "the key that is there is not the one that signs the log"
    yield trouble("box key", told, "restore the log or the key that belong together")


def _disk(state: StateConfig) -> Finding:
    usage = shutil.disk_usage(state.root)
    told = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB are free"
    if usage.free < FREE_BYTES_MIN:
        return trouble("disk", told, "free space: the log will soon take no records")
    if usage.free < FREE_SHARE_MIN * usage.total:
        return warning("disk", told, "free space, or shorten what is kept")
    return well("disk", told)


def _runtime(config: Config) -> Iterator[Finding]:
    try:
        with ControlClient(config.state.control_socket) as control:
            status = control.status()
    except Unreachable:
        yield warning("runtime", "none answers on the control socket", "start it, if it should run")
        for what, address in (
            ("server", config.server.address),
            ("metrics", config.metrics.address),
        ):
            if address:
                yield _port(what, address)
        return
    except ApplianceError as error:
        yield failed("runtime", error)
        return
    if status.audit_failure:
        told = f"the log takes no records: {status.audit_failure}"
        yield trouble("runtime", told, "see its journal")
    elif status.certificates_failure:
        told = f"new TLS files are not used: {status.certificates_failure}"
        yield trouble("runtime", told, "put files there that belong together")
    else:
        yield well("runtime", f"release {status.release} serves on {status.address}")
    for way in map(blocked_from_wire, status.checkpoints_blocked):
        finding = trouble if way.alarming else warning
        told = f"the newest checkpoint did not get to {way.way}: {way.trouble}"
        yield finding("checkpoints", told, way.remedy)
    for gpu in status.gpus:
        if gpu.state != "ready" or gpu.trouble:
            told = f"{gpu.device} is {gpu.state} in the runtime: {gpu.trouble}".rstrip(": ")
            yield warning("GPU", told, "see its journal, and `journalctl -k` for Xid lines")


def _port(what: str, address: str) -> Finding:
    """Whether the address could be bound now."""
    subject = f"[{what}] address"
    try:
        host, port = split_address(address)
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except ApplianceError as error:
        return failed(subject, error)
    except OSError as error:
        return trouble(subject, f"{address} names no machine: {error}", f"correct [{what}] address")
    family, kind, protocol, _, place = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            told = f"{address} cannot be bound: {error.strerror}"
            return trouble(subject, told, f"stop what holds the port, or set [{what}] address")
    return well(subject, f"{address} is free")
