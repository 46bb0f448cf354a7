"""TraceSetting and LogSettings: reading them, and changing them where the configuration grants it.

Knows: the settings of Triton's trace and logging extensions and which of them mean something here. Rules:
all of a request is checked before any of it holds; nothing is taken that would do nothing; a file is never
named over the network; a change is journalled with who made it, whatever is journalled otherwise. Leaves to
others: sampling (`runtime.traces`), writing lines (`appliance.journal`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from appliance.config import Config
from appliance.errors import (
    NotGranted,
    RequestError,
    UnknownModel,
    UnknownVersion,
    Unsupported,
    VersionNotServed,
)
from appliance.journal import Shown
from runtime.services.found import found
from runtime.swap import ServedTable
from runtime.traces import Traces, TraceSettings

RATE_MAX = 2**32 - 1
COUNT_MAX = 2**31 - 1
FORMATS = {"default": False, "ISO8601": True}  # whether each line says when
_GRANT = "set [server] settings_control = true"


class Settings:
    """TraceSetting and LogSettings. Traces go to the journal, one line a request, as they end."""

    def __init__(self, *, config: Config, table: ServedTable, traces: Traces) -> None:
        self._granted = config.server.settings_control
        self._table = table
        self._traces = traces

    async def TraceSetting(self, request: Any, context: Any) -> Any:
        """The trace settings of all models or of one, after changing those sent."""
        model = request.model_name
        if model:
            await self._check_model(model)
        if request.settings:
            if not self._granted:
                raise NotGranted("the server does not support trace", remedy=_GRANT)
            changes = trace_changes(
                {key: list(sent.value) for key, sent in request.settings.items()}
            )
            settings = self._traces.change(model, changes)
            journal.change("trace.changed", model=model, to=_told(settings), peer=context.peer())
        reply = oip.TraceSettingResponse()
        for name, value in _told(self._traces.settings(model)).items():
            reply.settings[name].value.append(value)
        return reply

    async def LogSettings(self, request: Any, context: Any) -> Any:
        """What the journal writes, after changing what was sent."""
        if request.settings:
            if not self._granted:
                raise NotGranted("the server does not support dynamic logging", remedy=_GRANT)
            shown = log_changes(journal.shown(), request.settings)
            journal.show(shown)
            journal.change("log.changed", to=_log_values(shown), peer=context.peer())
        reply = oip.LogSettingsResponse()
        for name, value in _log_values(journal.shown()).items():
            _set(reply.settings[name], value)
        return reply

    async def _check_model(self, model: str) -> None:
        try:
            await found(self._table, model, "")
        except (UnknownModel, UnknownVersion, VersionNotServed) as error:
            raise RequestError(
                f"Request for unknown model : {model}", remedy=error.remedy
            ) from error


def trace_changes(sent: Mapping[str, Sequence[str]]) -> dict[str, int | None]:
    """The fields of TraceSettings that `sent` sets; no value clears one. RequestError, Unsupported."""
    changes: dict[str, int | None] = {}
    for name, values in sent.items():
        if name == "trace_level":
            changes["timestamps"] = _level(values)
        elif name == "trace_rate":
            changes["rate"] = _number(name, values, 1, RATE_MAX)
        elif name == "trace_count":
            changes["count"] = _number(name, values, -1, COUNT_MAX)
        elif name == "trace_file":
            raise Unsupported(
                "trace file location can not be updated through network protocol",
                remedy="traces are lines of the journal",
            )
        elif name not in _FIXED:
            raise RequestError(
                f"unknown trace setting '{name}'",
                remedy="use one of trace_level, trace_rate, trace_count",
            )
        elif list(values) not in ([], [_FIXED[name]]):
            raise Unsupported(
                f"trace setting '{name}' is always '{_FIXED[name]}'", remedy="leave it out"
            )
    return changes


# Settings with one value here: a trace is written when its request ends, in one form.
_FIXED = {"log_frequency": "0", "trace_mode": "triton"}


def _told(settings: TraceSettings) -> dict[str, str]:
    """The settings by the protocol's names."""
    return {
        "trace_level": "TIMESTAMPS" if settings.timestamps else "OFF",
        "trace_rate": str(settings.rate),
        "trace_count": str(settings.count),
        "trace_file": "",
        **_FIXED,
    }


def _level(values: Sequence[str]) -> bool | None:
    if not values:
        return None
    for value in values:
        if value == "TENSORS":
            raise Unsupported(
                "trace level 'TENSORS' is not served: the journal has no payloads",
                remedy="the audit log holds small outputs and the digests of all tensors",
            )
        if value not in {"OFF", "TIMESTAMPS"}:
            raise RequestError(f"unknown trace level '{value}'", remedy="use 'OFF' or 'TIMESTAMPS'")
    if "OFF" in values and len(values) > 1:
        raise RequestError(
            "Expect only one trace level 'OFF' is specified", remedy="send 'OFF' alone"
        )
    return "TIMESTAMPS" in values


def _number(name: str, values: Sequence[str], lowest: int, highest: int) -> int | None:
    if not values:
        return None
    if len(values) > 1:
        raise RequestError(f"expect only 1 value for '{name}'", remedy="send one value")
    text = values[0]
    try:
        number = int(text)
    except ValueError as error:
        raise RequestError(
            f"Unable to parse '{name}', got: {text}", remedy="send a whole number"
        ) from error
    if not lowest <= number <= highest:
        raise RequestError(
            f"Unable to parse '{name}', value is out of range [ {lowest}, {highest} ], got: {text}",
            remedy="send a number within the range",
        )
    return number


def log_changes(shown: Shown, sent: Mapping[str, Any]) -> Shown:
    """`shown` with what `sent` (LogSettingsRequest.settings) changes. RequestError, Unsupported."""
    for name, value in sent.items():
        if name == "log_file":
            raise Unsupported(
                "log file location can not be updated through network protocol",
                remedy="the journal goes where the service unit says",
            )
        if name not in _LOG_FIELDS:
            raise RequestError(
                f"unknown log setting '{name}'",
                remedy=f"use one of {', '.join(sorted(_LOG_FIELDS))}",
            )
        kind, expected, field, read = _LOG_FIELDS[name]
        if value.WhichOneof("parameter_choice") != kind:
            raise RequestError(f"expect {expected} for '{name}'", remedy=f"send a {kind}")
        shown = replace(shown, **{field: read(getattr(value, kind))})
    return shown


def _timed(name: str) -> bool:
    if name not in FORMATS:
        raise RequestError(
            f"invalid argument for log_format, got: {name}",
            remedy=f"use one of {', '.join(FORMATS)}",
        )
    return FORMATS[name]


# By the protocol's name: which kind of value, as Triton's texts call it, which field of Shown, how to read it.
_LOG_FIELDS: dict[str, tuple[str, str, str, Callable[[Any], Any]]] = {
    "log_info": ("bool_param", "boolean", "events", bool),
    "log_warning": ("bool_param", "boolean", "warnings", bool),
    "log_error": ("bool_param", "boolean", "errors", bool),
    "log_verbose_level": ("uint32_param", "int32", "details", int),
    "log_format": ("string_param", "string", "timed", _timed),
}


def _log_values(shown: Shown) -> dict[str, bool | int | str]:
    """The settings by the protocol's names."""
    return {
        "log_file": "",
        "log_info": shown.events,
        "log_warning": shown.warnings,
        "log_error": shown.errors,
        "log_verbose_level": shown.details,
        "log_format": next(name for name, timed in FORMATS.items() if timed is shown.timed),
    }


def _set(message: Any, value: bool | int | str) -> None:  # noqa: FBT001 - a value of the protocol
    if isinstance(value, bool):
        message.bool_param = value
    elif isinstance(value, int):
        message.uint32_param = value
    else:
        message.string_param = value
