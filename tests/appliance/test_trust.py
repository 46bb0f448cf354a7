"""Whose signature counts: by role, model, time and revocation."""

from datetime import UTC, datetime

import msgspec
import pytest

from appliance import errors, trust
from appliance.modelkeys import P256SigningKey
from appliance.signing import SigningKey
from appliance.trust import Role, Signer, TrustStore, add_signer, moment, revoke_signer

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = P256SigningKey.generate().public
OTHER = SigningKey.generate().public


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "trust"


def added(directory, key=KEY, **what) -> TrustStore:
    add_signer(directory, key, Signer(key_id=key.key_id, name=what.pop("name", "anna"), **what))
    return TrustStore.read(directory)


def checked(store, model="digits", **how):
    return store.check(KEY.raw, model, **({"now": NOW, "signed_at": None} | how))


def test_nobody_is_trusted_at_first(directory):
    with pytest.raises(errors.KeyFileError) as refused:
        TrustStore.read(directory).require_someone()
    assert str(directory) in str(refused.value)
    assert TrustStore.read(directory).listed() == []


def test_a_key_that_only_lies_there_may_sign_every_model(directory):
    OTHER.save(directory / "old.pub")
    store = TrustStore.read(directory)
    store.require_someone()
    assert list(store.keys()) == [OTHER.raw]
    signer = store.check(OTHER.raw, "any", now=NOW, signed_at=None)
    assert (signer.name, signer.until) == ("old", None)
    assert store.keys(Role.SOURCE) == {}
    (row,) = store.listed()
    assert (row.signer.name, row.kind, row.file) == ("old", "ed25519", "old.pub")


def test_a_stranger_is_refused(directory):
    with pytest.raises(errors.BundleUntrusted):
        checked(TrustStore.read(directory))


def test_a_signer_signs_their_own_models_only(directory):
    store = added(directory, models=("digits", "tumours-*"))
    for model in ("digits", "tumours-2"):
        assert checked(store, model).name == "anna"
    with pytest.raises(errors.BundleUntrusted) as refused:
        checked(store, "tumours")
    assert "anna may sign digits, tumours-*" in str(refused.value)


def test_a_signer_has_a_role(directory):
    store = added(directory, roles=(Role.SOURCE,))
    assert store.keys() == {}
    assert checked(store, role=Role.SOURCE).name == "anna"
    with pytest.raises(errors.BundleUntrusted):
        checked(store)


@pytest.mark.parametrize(
    ("since", "until", "valid"),
    [
        ("2026-11-21", None, True),
        ("2026-11-22", None, False),
        (None, "2026-11-22", True),
        (None, "2026-11-21T00:00:00Z", False),
        ("2026-01-01", "2027-01-01T00:00:00+01:00", True),
        ("2027-01-01", "2028-01-01", False),
    ],
)
def test_a_signer_has_a_time(directory, since, until, valid):
    store = added(directory, since=since, until=until)
    stale = datetime(1970, 1, 2, tzinfo=UTC)
    if valid:
        assert checked(store)
        assert checked(store, now=stale, signed_at="2026-11-21T00:00:00Z", by_signing_time=True)
        return
    with pytest.raises(errors.BundleExpired):
        checked(store)
    with pytest.raises(errors.BundleExpired):
        checked(store, now=stale, signed_at="2026-11-21T00:00:00Z", by_signing_time=True)


def test_when_a_signer_may_sign_is_told_in_words(directory):
    with pytest.raises(errors.BundleExpired) as refused:
        checked(added(directory, until="2020-01-01"))
    assert "anna may sign until 2020-01-01, not at" in str(refused.value)
    bounded = Signer(key_id=KEY.key_id, name="anna", since="2020-01-01", until="2021-01-01")
    assert bounded.bounds() == "from 2020-01-01 until 2021-01-01"
    assert Signer(key_id=KEY.key_id, name="anna").bounds() == ""


def test_an_entry_that_cannot_be_kept_is_not_blamed_on_the_list(directory):
    added(directory)
    with pytest.raises(errors.KeyFileError) as refused:
        revoke_signer(directory, "anna", at="2026-11-20", reason="")
    assert "signers.json" not in str(refused.value)
    assert "reason" in str(refused.value)
    assert checked(TrustStore.read(directory)).name == "anna"


def test_without_a_signing_time_a_box_that_judges_by_it_refuses(directory):
    store = added(directory, until="2030-01-01")
    with pytest.raises(errors.BundleExpired) as refused:
        checked(store, by_signing_time=True)
    assert "--signed-at" in refused.value.remedy
    assert checked(added(directory), by_signing_time=True), "no bound, no time needed"


def test_a_revoked_key_stays_revoked(directory):
    added(directory)
    revoked = revoke_signer(directory, "anna", at="2026-11-20T00:00:00Z", reason="stolen")
    assert revoked.revoked is not None
    with pytest.raises(errors.BundleRevoked) as refused:
        checked(TrustStore.read(directory))
    assert "stolen" in str(refused.value)
    with pytest.raises(errors.KeyFileError):
        added(directory)
    for path in directory.glob("*.pub"):
        path.unlink()
    (row,) = TrustStore.read(directory).listed()
    assert (row.kind, row.file, row.signer.revoked) == (None, None, revoked.revoked)
    KEY.save(directory / "copied-back.pub")
    with pytest.raises(errors.BundleRevoked):
        checked(TrustStore.read(directory))


def test_a_key_without_an_entry_can_be_revoked_by_its_id(directory):
    KEY.save(directory / "old.pub")
    assert revoke_signer(directory, KEY.key_id[:12], at="2026-11-20", reason="x").name == "old"
    with pytest.raises(errors.BundleRevoked):
        checked(TrustStore.read(directory))


def test_who_is_revoked_is_named_without_doubt(directory):
    added(directory)
    added(directory, OTHER)
    for named in ("anna", "nobody", KEY.key_id[:7]):
        with pytest.raises(errors.KeyFileError):
            revoke_signer(directory, named, at="2026-11-20", reason="x")


def test_adding_again_changes_what_is_said(directory):
    added(directory, models=("a",))
    store = added(directory, name="anna b", models=())
    assert [row.signer.name for row in store.listed()] == ["anna b"]
    assert len(list(directory.glob("*.pub"))) == 1


def test_times_that_are_none_are_refused(directory):
    with pytest.raises(errors.KeyFileError):
        added(directory, until="next year")
    assert moment("2026-11-21") == NOW


@pytest.mark.parametrize("text", ["", "{}x", '{"format":2}', '{"signers":[{"name":"x"}]}'])
def test_a_damaged_list_lets_nobody_sign(directory, text):
    KEY.save(directory / "old.pub")
    (directory / "signers.json").write_text(text)
    with pytest.raises(errors.KeyFileError):
        TrustStore.read(directory)


def test_a_file_that_is_no_key_lets_nobody_sign_and_is_named(directory):
    KEY.save(directory / "old.pub")
    (directory / "notes.pub").write_text("call anna")
    with pytest.raises(errors.KeyFileError) as refused:
        TrustStore.read(directory)
    assert "notes.pub" in str(refused.value)
    assert "out of the trust directory" in refused.value.remedy


def test_a_list_that_cannot_be_read_is_told(directory):
    (directory / "signers.json").mkdir(parents=True)
    with pytest.raises(errors.KeyFileError):
        TrustStore.read(directory)


def test_a_key_is_there_only_with_its_entry(directory, monkeypatch):
    def full(*_, **__):
        raise errors.StateError("no space", remedy="free some")

    monkeypatch.setattr(trust, "write_file", full)
    with pytest.raises(errors.StateError):
        added(directory, models=("digits",))
    assert list(directory.glob("*.pub")) == []


@pytest.mark.parametrize("what", [{"name": ""}, {"models": ("",)}, {"models": ("x" * 201,)}])
def test_what_could_not_be_read_again_is_not_written(directory, what):
    store = added(directory)
    with pytest.raises(errors.KeyFileError):
        added(directory, OTHER, **what)
    with pytest.raises(errors.KeyFileError):
        revoke_signer(directory, "anna", at="2026-11-20", reason="")
    assert TrustStore.read(directory).listed() == store.listed()


def test_two_entries_of_a_key_are_refused_and_so_is_a_time_that_is_none(directory):
    added(directory)
    revoke_signer(directory, "anna", at="2026-11-20", reason="stolen")
    path = directory / "signers.json"
    told = msgspec.json.decode(path.read_bytes())
    (entry,) = told["signers"]
    for signers in ([entry, entry | {"revoked": None}], [entry | {"until": "soon"}]):
        path.write_bytes(msgspec.json.encode(told | {"signers": signers}))
        with pytest.raises(errors.KeyFileError):
            TrustStore.read(directory)


def test_revoking_again_does_not_change_when_and_why(directory):
    added(directory)
    first = revoke_signer(directory, "anna", at="2026-11-20", reason="stolen")
    assert revoke_signer(directory, "anna", at="2026-11-21", reason="tidy") == first
    assert TrustStore.read(directory).listed()[0].signer == first
