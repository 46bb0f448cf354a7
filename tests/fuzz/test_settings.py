"""What clients send to change settings and models: load overrides, trace and log settings, trace context."""

from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from runtime.services.overrides import override_from
from runtime.services.settings import log_changes, trace_changes
from tests.fuzz.mutating import fuzzed, json_mutants, mutants, refused_or_taken, saved

CONFIG = b'{"name":"m","versionPolicy":{"specific":{"versions":["2"]}},"maxBatchSize":8,"input":[{"name":"x","dims":["1"]}]}'


def _load(config: str) -> bytes:
    request = oip.RepositoryModelLoadRequest(model_name="m")
    request.parameters["config"].string_param = config
    return request.SerializeToString()


def _traced() -> bytes:
    request = oip.TraceSettingRequest(model_name="m")
    for name, value in {"trace_rate": "5", "trace_level": "TIMESTAMPS", "trace_count": "3"}.items():
        request.settings[name].value.append(value)
    return request.SerializeToString()


def _logged() -> bytes:
    request = oip.LogSettingsRequest()
    request.settings["log_info"].bool_param = True
    request.settings["log_verbose_level"].uint32_param = 1
    request.settings["log_format"].string_param = "ISO8601"
    return request.SerializeToString()


def _loading(data: bytes) -> None:
    request = oip.RepositoryModelLoadRequest.FromString(data)
    override_from(request.model_name, request.parameters)


def _tracing(data: bytes) -> None:
    request = oip.TraceSettingRequest.FromString(data)
    trace_changes({key: list(sent.value) for key, sent in request.settings.items()})


def _logging(data: bytes) -> None:
    log_changes(journal.shown(), oip.LogSettingsRequest.FromString(data).settings)


def _every(data: bytes) -> None:
    for act in (_loading, _tracing, _logging):
        refused_or_taken(act, data, DecodeError)


@fuzzed
@given(mutants([CONFIG]) | json_mutants([CONFIG]))
def test_any_override_is_read_or_refused(config: bytes) -> None:
    _every(_load(config.decode(errors="replace")))


@fuzzed
@given(mutants([_load(CONFIG.decode()), _traced(), _logged()]))
def test_any_settings_message_is_read_or_refused(data: bytes) -> None:
    _every(data)


@fuzzed
@given(
    st.sampled_from(
        ["trace_rate", "trace_level", "trace_count", "log_frequency", "trace_file", "x"]
    ),
    st.lists(
        st.text(max_size=9) | st.sampled_from(["-1", "9" * 5000, "٣", "1e9", "OFF", " 1"]),
        max_size=3,
    ),
)
def test_any_trace_setting_is_taken_or_refused(name: str, values: list[str]) -> None:
    request = oip.TraceSettingRequest()
    request.settings[name].value.extend(values)
    _every(request.SerializeToString())


@pytest.mark.parametrize("path", saved("settings"), ids=lambda path: path.name)
def test_saved_cases(path: Path) -> None:
    _every(path.read_bytes())
    _every(_load(path.read_bytes().decode(errors="replace")))
