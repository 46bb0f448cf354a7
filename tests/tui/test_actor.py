"""Who decides is a name the system knows."""

import os
import pwd

import pytest

from tui.actor import login_name


def test_the_account_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "somebody-else")
    assert login_name() == pwd.getpwuid(os.getuid()).pw_name


def test_under_sudo_the_one_who_called_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    assert login_name() == "alice"


def test_an_ordinary_user_cannot_claim_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    monkeypatch.setenv("SUDO_USER", "alice")
    assert login_name() == "uid 4000000"
