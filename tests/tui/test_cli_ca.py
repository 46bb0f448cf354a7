"""`holdfast ca`, as an operator runs it, away from any box."""

import json
import stat

import pytest
from typer.testing import CliRunner

from appliance.certificates import Certificate
from tui.cli import app

UNUSABLE = 12


@pytest.fixture
def ca(tmp_path, monkeypatch):
    """Runs `holdfast ca ...` in a directory of its own, where ./site is the authority."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        done = CliRunner().invoke(app, ["ca", *map(str, arguments)])
        assert done.exit_code == code, done.output
        return done.output

    run("init", "site", "--site", "plant-7")
    return run


def test_from_nothing_to_certificates_on_both_sides(ca, tmp_path):
    told = ca("issue", "site", "server", "box", "--address", "10.0.0.7", "-o", "out")
    assert "move it to the box" in told
    (made,) = json.loads(ca("issue", "site", "client", "line-3", "-o", "out", "--json"))
    assert made["name"] == "spiffe://plant-7/client/line-3"
    assert made["key"] == "out/line-3.key"
    assert stat.S_IMODE((tmp_path / "out" / "line-3.key").stat().st_mode) == 0o600
    listed = json.loads(ca("list", "site", "--json"))
    assert [item["state"] for item in listed] == ["valid", "valid"]
    assert listed[0]["addresses"] == ["10.0.0.7"]


def test_nothing_is_overwritten_unasked(ca):
    ca("issue", "site", "client", "line-3")
    assert "exists already" in ca("issue", "site", "client", "line-3", code=UNUSABLE)
    assert "already" in ca("init", "site", "--site", "x", code=UNUSABLE)


def test_renewing_replaces_the_certificate_and_leaves_the_key(ca, tmp_path):
    ca("issue", "site", "client", "line-3")
    key = (tmp_path / "line-3.key").read_bytes()
    before = (tmp_path / "line-3.pem").read_bytes()
    assert "Nothing is due" in ca("renew", "site")
    assert json.loads(ca("renew", "site", "--json")) == []
    (made,) = json.loads(ca("renew", "site", "line-3", "--json"))
    assert made["key"] is None
    after = (tmp_path / "line-3.pem").read_bytes()
    assert after != before
    assert Certificate.from_pem(after, where="test").fits(key)
    assert [item["state"] for item in json.loads(ca("list", "site", "--json"))] == ["valid"] * 2
    assert "replaced" in ca("list", "site")
    ca("renew", "site", "spiffe://plant-7/client/line-3", "--new-key")
    assert (tmp_path / "line-3.key").read_bytes() != key


def test_one_name_in_two_roles_is_told_apart_by_its_uri(ca):
    ca("issue", "site", "client", "anna", "-o", "a")
    ca("issue", "site", "operator", "anna", "-o", "b")
    assert "is several" in ca("renew", "site", "anna", code=UNUSABLE)
    assert "no certificate that stands" in ca("renew", "site", "berta", code=UNUSABLE)


def test_renewing_does_not_write_over_who_has_the_name_in_another_role(ca, tmp_path):
    ca("issue", "site", "client", "anna")
    ca("issue", "site", "operator", "anna", "-o", "b")
    before = (tmp_path / "anna.pem").read_bytes()
    operator = "spiffe://plant-7/operator/anna"
    told = ca("renew", "site", operator, code=UNUSABLE)
    assert "is of spiffe://plant-7/client/anna" in " ".join(told.split())
    assert (tmp_path / "anna.pem").read_bytes() == before
    both = (operator, "spiffe://plant-7/client/anna")
    ca("renew", "site", *both, "-o", "new", code=UNUSABLE)
    assert len(json.loads(ca("list", "site", "--json"))) == 2, "nothing was issued"
    ca("renew", "site", operator, "-o", "b")


def test_revoking_needs_a_reason_and_says_what_to_do(ca, tmp_path):
    ca("issue", "site", "client", "line-3")
    assert "needs a reason" in ca("revoke", "site", "line-3", "--reason", " ", code=UNUSABLE)
    assert "Copy site/denied.txt" in ca("revoke", "site", "line-3", "--reason", "lost")
    assert "revoked before" in ca("revoke", "site", "line-3", "--reason", "again")
    (revoked,) = json.loads(ca("list", "site", "--json"))
    assert (revoked["state"], revoked["reason"]) == ("revoked", "lost")
    assert revoked["serial"] in (tmp_path / "site" / "denied.txt").read_text()
    assert json.loads(ca("revoke", "site", "line-3", "--reason", "x", "--json")) == []


def test_a_passphrase_guards_the_authority(ca, tmp_path):
    (tmp_path / "secret").write_text("open sesame\n")
    (tmp_path / "empty").write_text("\n")
    told = ca("init", "guarded", "--site", "x", "--passphrase-file", "secret")
    assert "encrypted" in told
    assert "does not open" in ca("issue", "guarded", "client", "x", code=UNUSABLE)
    ca("issue", "guarded", "client", "x", "--passphrase-file", "secret")
    for wrong in ("empty", "missing"):
        ca("issue", "guarded", "client", "y", "--passphrase-file", wrong, code=UNUSABLE)


def test_the_state_directory_is_refused(ca):
    assert "off every box" in ca("init", "elsewhere", "--site", "x")
    told = ca("init", "holdfast-data/ca", "--site", "x", code=UNUSABLE)
    assert "inside the state directory" in told
