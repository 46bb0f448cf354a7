"""How the console and `holdfast status` tell of certificates that somebody must see to."""

import pytest

from tests.tui.conftest import HOUR_NS, NOW_NS, box, snapshot
from tui.commands.serving import _box_lines, _status_json
from tui.snapshot import CertificateLine
from tui.widgets.status import StatusLine


def line(state, what="server"):
    return CertificateLine(
        what=what, name="spiffe://plant/server/box", not_after_ns=NOW_NS + HOUR_NS, state=state
    )


def status_line(shown):
    """The console's top line as text."""
    told = []
    widget = StatusLine()
    widget.update = lambda text, **_: told.append(text)
    widget.show(shown, busy="", wide=True)
    return told[0].plain


@pytest.mark.parametrize("state", ["due for renewal", "expired", "not yet valid"])
def test_the_top_line_tells_of_a_certificate_that_needs_somebody(state):
    shown = status_line(snapshot(box=box(certificates=(line("valid", "client_ca"), line(state)))))
    assert f"server certificate {state}, until 2026-" in shown


def test_the_top_line_keeps_quiet_about_certificates_that_hold():
    assert "certificate" not in status_line(snapshot(box=box(certificates=(line("valid"),))))


def test_files_that_are_not_used_come_before_what_expires():
    now = box(certificates=(line("expired"),), certificates_failure="it does not fit")
    assert "new certificates are not used: it does not fit" in status_line(snapshot(box=now))


def test_status_lists_every_certificate():
    now = snapshot(box=box(certificates=(line("valid"),), certificates_failure="no"))
    told = dict.fromkeys(text for name, text in _box_lines("serving", now.box) if name == "TLS")
    assert len(told) == 2
    (shown,) = _status_json(now)["certificates"]
    assert (shown["certificate"], shown["state"]) == ("server", "valid")
