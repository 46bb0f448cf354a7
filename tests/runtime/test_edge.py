"""The edge: errors to status codes, words to systemd."""

import json
import os
import socket

import grpc
import pytest

from appliance import errors, journal
from runtime.interceptors import refusal, status_code
from runtime.notify import notify, watchdog_seconds


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UnknownModel, grpc.StatusCode.NOT_FOUND),
        (errors.UnknownVersion, grpc.StatusCode.NOT_FOUND),
        (errors.VersionNotServed, grpc.StatusCode.UNAVAILABLE),
        (errors.RequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.RequestLimit, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.Overloaded, grpc.StatusCode.UNAVAILABLE),
        (errors.Draining, grpc.StatusCode.UNAVAILABLE),
        (errors.AuditUnwritable, grpc.StatusCode.UNAVAILABLE),
        (errors.DecisionError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.EngineError, grpc.StatusCode.INTERNAL),
        (errors.StoreError, grpc.StatusCode.DATA_LOSS),
    ],
)
def test_each_error_has_the_status_clients_expect(kind, code):
    assert status_code(kind("what", remedy="do")) is code


def test_the_journal_names_the_request_that_failed_by_our_fault(capsys):
    journal.start_journal()
    told = refusal(ZeroDivisionError("by zero"), request_id="r-7")
    refusal(errors.EngineError("it broke", remedy="see"), request_id="r-8")
    refusal(errors.RequestError("yours", remedy="mend"), request_id="r-9")
    crashed, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert (crashed["event"], crashed["request_id"]) == ("request.crashed", "r-7")
    assert crashed["incident"] in told.details
    assert (failed["event"], failed["request_id"]) == ("request.failed", "r-8")


def test_without_systemd_nothing_is_said(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify("READY=1")
    assert watchdog_seconds() is None


def test_systemd_is_told_also_on_an_abstract_socket(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert watchdog_seconds() == 1.5
    name = f"holdfast-{os.getpid()}"  # no directory keeps it apart from another run's
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1", "STATUS=ok")
        assert manager.recv(100) == b"READY=1\nSTATUS=ok"


def test_a_manager_that_is_gone_and_a_watchdog_of_another_process_are_nothing(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None
