"""`holdfast status` and `holdfast versions`.

Knows: the tables and the JSON of both. Rules: the JSON's keys are a contract, so they are spelled out
here and not taken from what a screen happens to need. Leaves to others: fetching (`tui.gateway`).
"""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock, timestamp
from appliance.config import Config
from appliance.errors import ApplianceError
from tui import wording
from tui.commands.auditstate import forecast
from tui.gateway import RuntimeGateway
from tui.printing import cell, out, print_json, table
from tui.snapshot import (
    BlockedWay,
    Box,
    GpuLine,
    ModelLine,
    Snapshot,
    VersionLine,
    acceptance,
)


def status(config: Config, *, as_json: bool) -> None:
    """Print one look at the runtime, and how long the disk lasts for its log. Raises Unreachable."""
    with RuntimeGateway(config.state.control_socket) as gateway:
        snapshot = gateway.observe()
    words = _forecast(config)
    if as_json:
        print_json(_status_json(snapshot) | {"disk": words})
        return
    console = out()
    if snapshot.box:
        for name, value in (*_box_lines(snapshot.link, snapshot.box), ("Disk", words)):
            console.print(f"{name:<10}", cell(value))
        console.print()
    console.print(_models(snapshot.models))
    _print_tunings(console, snapshot.models)


def _forecast(config: Config) -> str:
    """When the log fills the disk; whoever may not read the log is told so."""
    try:
        with AuditReader(config.state.audit_log) as reader:
            return forecast(config, reader).words
    except ApplianceError as error:
        return str(error)


def versions(socket: Path, model: str, *, as_json: bool) -> None:
    """Print the versions of `model`, of all models when it is "". Raises UnknownModel, Unreachable."""
    with RuntimeGateway(socket) as gateway:
        models = gateway.models(model)
    if as_json:
        print_json([model_json(line) for line in models])
        return
    counted = any(version.edition for line in models for version in line.versions)
    numbers = ("Version", *(("Edition",) if counted else ()))
    facts = ("Role", "Loaded", "Engine", "Acceptance", "Built")
    shown = table("Model", *numbers, *facts, right=numbers)
    now_ns = SystemClock().wall_ns()
    for line in models:
        for version in line.versions:
            shown.add_row(*_version_cells(line, version, now_ns, counted=counted))
    console = out()
    console.print(shown)
    _print_tunings(console, models)
    for line in models:
        for version in line.versions:
            for warning in version.warnings if version.loaded else ():
                console.print(cell(f"warning: {line.name} {version.number}: {warning}", "yellow"))


def model_json(model: ModelLine) -> dict[str, object]:
    """A model and its versions, as JSON has them; the roles are version numbers or null."""
    return {
        "model": model.name,
        "active": model.active,
        "canary": model.canary,
        "canary_per_mille": model.canary_per_mille,
        "shadow": model.shadow,
        "previous": model.previous,
        "tuning": model.tuning,
        "versions": model.versions,
    }


def _status_json(snapshot: Snapshot) -> dict[str, object]:
    box = snapshot.box
    assert box is not None, "observe raises when there is no box"
    return {
        "state": snapshot.link,
        "release": box.release,
        "address": box.address,
        "metrics_address": box.metrics_address,
        "started": timestamp(box.started_wall_ns),
        "uptime_seconds": box.uptime_seconds,
        "audit": {
            "records": box.audit_records,
            "queue": box.audit_queue,
            "failure": box.audit_failure,
        },
        "certificates": [
            {
                "certificate": item.what,
                "name": item.name,
                "not_after": timestamp(item.not_after_ns),
                "state": item.state,
            }
            for item in box.certificates
        ],
        "certificates_failure": box.certificates_failure,
        "gpus": box.gpus,
        "checkpoints_blocked": box.checkpoints_blocked,
        "models": [_traffic_json(model) for model in snapshot.models],
    }


def _traffic_json(model: ModelLine) -> dict[str, object]:
    traffic = model.traffic
    return {
        "model": model.name,
        "active": model.active,
        "canary": model.canary,
        "canary_per_mille": model.canary_per_mille,
        "shadow": model.shadow,
        "previous": model.previous,
        "tuning": model.tuning,
        "answered": traffic.answered,
        "failed": traffic.failed,
        "rows": traffic.rows,
        "batches": traffic.batches,
        "queued": traffic.queued,
        "p50_ms": traffic.p50_ms,
        "p99_ms": traffic.p99_ms,
    }


def _box_lines(link: str, box: Box) -> list[tuple[str, str]]:
    audit = f"{wording.plural(box.audit_records, 'record')}, {box.audit_queue:,} waiting"
    return [
        ("Holdfast", f"{box.release}, {link}, up {wording.span(box.uptime_seconds)}"),
        ("Inference", box.address),
        ("Metrics", f"http://{box.metrics_address}/metrics" if box.metrics_address else "off"),
        ("Audit log", f"takes no records: {box.audit_failure}" if box.audit_failure else audit),
        *[("Checkpoint", _blocked(item)) for item in box.checkpoints_blocked],
        *_certificate_lines(box),
        *[("GPU", _gpu(gpu)) for gpu in box.gpus],
    ]


def _blocked(item: BlockedWay) -> str:
    return f"{'ALARM, ' if item.alarming else ''}not to {item.way}: {item.trouble}"


def _gpu(gpu: GpuLine) -> str:
    fares = wording.gpu(
        busy=gpu.busy,
        free=gpu.memory_free_bytes,
        total=gpu.memory_bytes,
        celsius=gpu.celsius,
        watts=gpu.watts,
    )
    restarts = f", {wording.plural(gpu.restarts, 'restart')}" if gpu.restarts else ""
    engines = wording.plural(gpu.engines, "engine")
    failing = f"; it {gpu.failing}" if gpu.failing else ""
    return f"{gpu.device}: {gpu.name}, {gpu.state}, {engines}, {fares}{restarts}{failing}"


def _certificate_lines(box: Box) -> list[tuple[str, str]]:
    lines = [
        ("TLS", f"{item.what} {item.name}, {item.state}, until {timestamp(item.not_after_ns)[:10]}")
        for item in box.certificates
    ]
    failure = box.certificates_failure
    return [*lines, *([("TLS", f"new files are not used: {failure}")] if failure else [])]


def _models(models: tuple[ModelLine, ...]) -> RenderableType:
    if not models:
        return cell("The store holds no model yet; build one with holdfast-compile.")
    beside = any(model.accompanied for model in models)
    # As in the console, what runs beside stands in place of what `versions` tells as well: 80 cells are few.
    roles = ("Active", *(("Canary", "Shadow") if beside else ("Previous", "Versions")))
    numbers = (*roles, "Answered", "Failed", "Waiting", "p50", "p99")
    shown = table("Model", *numbers, right=numbers, whole=numbers)
    for model in models:
        traffic = model.traffic
        shown.add_row(
            cell(model.name),
            wording.version(model.active),
            *(_beside(model) if beside else _alone(model)),
            f"{traffic.answered:,}",
            f"{traffic.failed:,}",
            f"{traffic.queued:,}",
            wording.latency(traffic.p50_ms),
            wording.latency(traffic.p99_ms),
        )
    return shown


def _beside(model: ModelLine) -> tuple[str, str]:
    canary = wording.canary(model.canary, model.canary_per_mille)
    return canary, wording.version(model.shadow)


def _alone(model: ModelLine) -> tuple[str, str]:
    return wording.version(model.previous), str(len(model.versions))


def _print_tunings(console: Console, models: Iterable[ModelLine]) -> None:
    """Say how the models run that were tuned: all others run by the settings of the box."""
    for model in models:
        if model.tuning is not None:
            console.print(cell(f"tuned: {model.name}: {wording.tuning(model.tuning)}"))


def _version_cells(
    model: ModelLine, version: VersionLine, now_ns: int, *, counted: bool
) -> list[Text]:
    style = {"active": "bold green", "canary": "green", "retired": "dim"}.get(version.role, "")
    role = wording.role(version.role, model.canary_per_mille)
    told = version.damage or acceptance(version.thresholds) or wording.NOTHING
    return [
        cell(model.name, style),
        cell(version.number, style),
        *([cell(wording.version(version.edition), style)] if counted else []),
        cell("damaged" if version.damage else role, style),
        cell("yes" if version.loaded else "no", style),
        cell(version.engine_text or wording.NOTHING, style),
        cell(told, "red" if version.damage else style),
        cell(wording.ago(version.built, now_ns), style),
    ]
