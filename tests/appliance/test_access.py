"""Bearer tokens at rest."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access import DAY_NS, Role, digest, issue_token, read_tokens, revoke_tokens
from appliance.errors import StateError, TokenError

NOW = 1_795_000_000 * 10**9


def issue(path: Path, name: str = "line-3", days: int = 30) -> str:
    return issue_token(path, name, Role.CLIENT, models=("digits",), days=days, now_ns=NOW)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access" / "tokens.json"


def test_a_token_is_kept_as_its_digest_only(path: Path) -> None:
    secret = issue(path)
    (token,) = read_tokens(path)
    assert secret.encode() not in path.read_bytes()
    assert token.sha256 == digest(secret)
    assert token.id == digest(secret)[:12]
    assert (token.principal, token.role, token.models) == ("token:line-3", "client", ("digits",))
    assert not [other for other in path.parent.iterdir() if secret in other.name]


def test_no_two_tokens_are_alike_and_each_has_256_bits(path: Path) -> None:
    secrets = {issue(path) for _ in range(50)}
    assert len(secrets) == 50
    assert {len(secret) for secret in secrets} == {len("holdfast_") + 43}


def test_a_token_holds_from_its_issue_to_its_end(path: Path) -> None:
    issue(path, days=30)
    (token,) = read_tokens(path)
    assert token.holds(NOW)
    assert token.holds(NOW + 30 * DAY_NS - 1)
    assert not token.holds(NOW + 30 * DAY_NS)


def test_revoking_a_name_ends_all_its_tokens_and_an_id_only_one(path: Path) -> None:
    for name in ("line-3", "line-3", "line-4"):
        issue(path, name)
    first, second, other = read_tokens(path)
    assert [token.sha256 for token in revoke_tokens(path, first.id, now_ns=NOW)] == [first.sha256]
    assert [token.holds(NOW) for token in read_tokens(path)] == [False, True, True]
    assert [token.id for token in revoke_tokens(path, "line-3", now_ns=NOW + 1)] == [second.id]
    assert [token.revoked_ns for token in read_tokens(path)] == [NOW, NOW + 1, 0]
    assert other.holds(NOW)
    with pytest.raises(TokenError, match="no token called 'line-3' holds"):
        revoke_tokens(path, "line-3", now_ns=NOW)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 65, "line\n3", "ä"])
def test_a_name_is_plain(path: Path, name: str) -> None:
    with pytest.raises(TokenError, match="is no name"):
        issue(path, name)


def test_their_number_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.access.TOKENS_MAX", 1)
    issue(path)
    with pytest.raises(TokenError, match="no more may be"):
        issue(path)


def test_two_who_issue_at_once_lose_nothing(path: Path) -> None:
    threads = [threading.Thread(target=issue, args=(path, f"line-{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in read_tokens(path)} == {f"line-{n}" for n in range(16)}


def test_the_runtimes_user_can_read_what_root_issued(path: Path) -> None:
    mask = os.umask(0o077)
    try:
        issue(path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@given(st.binary(max_size=200))
def test_whatever_stands_in_the_file_is_tokens_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("access") / "tokens.json"
    path.write_bytes(data)
    with pytest.raises(StateError):
        read_tokens(path)


def test_a_file_that_cannot_be_read_or_locked_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot read"):
        read_tokens(tmp_path)
    (tmp_path / ".tokens.json.lock").mkdir()
    with pytest.raises(StateError, match="cannot write"):
        issue(tmp_path / "tokens.json")
