"""What a box lets in: for this box and release, newer than what was here, with a signed source if it must."""

import shutil

import msgspec
import pytest

from appliance import errors
from appliance.attestation import attest
from appliance.audit.kinds import Installed
from appliance.config import BundlesConfig
from appliance.files import sha256_file
from appliance.installs import Installs
from appliance.modelkeys import P256SigningKey
from appliance.notes import left, read_note
from appliance.store import Store
from appliance.trust import Role, Signer, add_signer, revoke_signer
from compiler.admission import check_edition
from compiler.build import build
from compiler.signedsource import signed_source

DAY = 86_400_000_000_000


class Clock:
    """Stands at a day."""

    def __init__(self, day: int) -> None:
        self._day = day

    def wall_ns(self) -> int:
        return self._day * DAY

    def monotonic_ns(self) -> int:
        return 0


def built(workshop, *, clock=None, older=False, **bounds):
    config = msgspec.structs.replace(workshop.config, bundles=BundlesConfig(**bounds))
    return build(workshop.bundle, config, in_process=True, clock=clock, older=older)


def history(workshop) -> list[tuple[str, str]]:
    installs = Installs(Store(workshop.config.state.store).installs).all()
    return [(str(item.state), item.code) for item in installs]


def limited(workshop, **what) -> None:
    public = workshop.key.public
    add_signer(
        workshop.config.state.trust, public, Signer(key_id=public.key_id, name="anna", **what)
    )


def test_a_signer_of_other_models_is_refused(workshop):
    limited(workshop, models=("other",))
    workshop.pack()
    with pytest.raises(errors.BundleUntrusted):
        built(workshop)
    assert history(workshop) == [("refused", "bundle.untrusted")]
    assert workshop.left_behind() == []


def test_a_revoked_signer_is_refused_and_what_stands_stays(workshop):
    workshop.pack()
    built(workshop)
    key_id = workshop.key.public.key_id
    revoke_signer(workshop.config.state.trust, key_id, at="2026-11-21", reason="stolen")
    with pytest.raises(errors.BundleRevoked):
        built(workshop)
    assert Store(workshop.config.state.store).open("tiny", 1).number == 1
    assert history(workshop) == [("filed", ""), ("refused", "bundle.revoked")]


def test_a_signers_time_is_held_against_the_clock_or_the_signing_time(workshop):
    limited(workshop, since="2026-01-01", until="2027-01-01")
    in_time, far_off = Clock(20_700), Clock(2)  # days since 1970: 2026-09-04, 1970-01-03
    workshop.pack(signed_at="2026-11-21T08:00:00Z")
    with pytest.raises(errors.BundleExpired):
        built(workshop, clock=far_off)
    assert built(workshop, clock=far_off, validity_by="signing-time").new
    assert not built(workshop, clock=in_time).new
    workshop.pack()
    with pytest.raises(errors.BundleExpired):
        built(workshop, clock=in_time, validity_by="signing-time")
    workshop.pack(signed_at="yesterday")
    with pytest.raises(errors.BundleContent):
        built(workshop, clock=in_time, validity_by="signing-time")


@pytest.mark.parametrize(
    ("wanted", "fits"), [("0.0.9", True), ("0.1", True), ("0.1.0", True), ("99", False)]
)
def test_a_bundle_may_need_a_release(workshop, wanted, fits):
    workshop.change("batch_max = 8", f'batch_max = 8\nminimum_release = "{wanted}"')
    workshop.pack()
    if fits:
        assert built(workshop).new
        return
    with pytest.raises(errors.BundleIncompatible) as refused:
        built(workshop)
    assert "needs release 99" in str(refused.value)


def test_a_box_may_be_of_a_kind(workshop):
    workshop.pack()
    with pytest.raises(errors.BundleIncompatible):
        built(workshop, compatible=("tiny/x86",))
    workshop.change("batch_max = 8", 'batch_max = 8\ncompatible = "tiny/x86"')
    workshop.pack()
    with pytest.raises(errors.BundleIncompatible):
        built(workshop, compatible=("tiny/arm",))
    assert built(workshop, compatible=("tiny/arm", "tiny/x86")).new


def test_an_older_edition_needs_a_persons_word(workshop):
    workshop.change("batch_max = 8", "batch_max = 8\nedition = 5")
    workshop.pack()
    built(workshop)
    shutil.rmtree(workshop.config.state.store / "tiny")  # the history does not forget
    workshop.change("\nedition = 5", "")
    workshop.pack()
    with pytest.raises(errors.BundleOlder):
        built(workshop)
    workshop.change("batch_max = 8", "batch_max = 8\nedition = 4")
    workshop.pack()
    with pytest.raises(errors.BundleOlder) as refused:
        built(workshop)
    assert "--older" in refused.value.remedy
    assert built(workshop, older=True).new
    assert not built(workshop).new, "it was let in once"


def test_a_history_that_was_lost_or_damaged_lets_no_older_edition_in(workshop):
    workshop.change("batch_max = 8", "batch_max = 8\nedition = 5")
    workshop.pack()
    built(workshop)
    for path in (workshop.config.state.store / ".installs").glob("*.json"):
        path.write_bytes(b"?")
    workshop.change("edition = 5", "edition = 4")
    workshop.pack()
    with pytest.raises(errors.BundleOlder):
        built(workshop)


def test_editions_are_compared(workshop):
    workshop.pack()
    manifest, _ = workshop.contents()
    check_edition(manifest, None, older=False)
    check_edition(msgspec.structs.replace(manifest, edition=3), 3, older=False)
    check_edition(manifest, 3, older=True)
    for edition in (None, 2):
        with pytest.raises(errors.BundleOlder):
            check_edition(msgspec.structs.replace(manifest, edition=edition), 3, older=False)


def trainers(workshop) -> P256SigningKey:
    """A key of the role `source`, trusted on the box."""
    key = P256SigningKey.generate()
    signer = Signer(key_id=key.public.key_id, name="trainer", roles=(Role.SOURCE,))
    add_signer(workshop.config.state.trust, key.public, signer)
    return key


def signed(workshop, key):
    """The workshop's model, signed by `key` in the tool's form."""
    signature, public = workshop.directory / "model.sig", workshop.directory / "trainer.pub"
    signature.write_bytes(attest("tiny.onnx", {".": sha256_file(workshop.model)}, {}, key))
    key.public.save(public)
    return signed_source(workshop.model, signature, public)


def test_a_box_may_demand_a_signed_source(workshop):
    workshop.pack()
    with pytest.raises(errors.BundleUnsigned):
        built(workshop, signed_source=True)
    stranger = P256SigningKey.generate()
    workshop.pack(source=signed(workshop, stranger))
    public = stranger.public
    add_signer(workshop.config.state.trust, public, Signer(key_id=public.key_id, name="of bundles"))
    with pytest.raises(errors.BundleUntrusted) as refused:
        built(workshop, signed_source=True)
    assert "the source is signed by" in str(refused.value)
    assert "--role source" in refused.value.remedy
    assert built(workshop).new, "told, and vouched for by nobody here"
    workshop.pack(source=signed(workshop, trainers(workshop)))
    done = built(workshop, signed_source=True)
    assert done.new
    assert "source.sig" in {item.name for item in done.version.manifest.files}


def test_a_sources_signature_must_be_of_this_source(workshop):
    key = trainers(workshop)
    workshop.pack(source=signed(workshop, key))
    workshop.resign(source_sha256="11" * 32)
    with pytest.raises(errors.BundleSignature):
        built(workshop)
    revoke_signer(workshop.config.state.trust, "trainer", at="2026-11-21", reason="x")
    with pytest.raises(errors.BundleRevoked):
        built(workshop)


def test_files_that_do_not_belong_to_a_bundle_are_refused(workshop):
    workshop.pack(source=signed(workshop, P256SigningKey.generate()))
    workshop.resign(source_signer=None)
    with pytest.raises(errors.BundleContent):
        built(workshop)


def notes(workshop) -> list[tuple[str, int, str]]:
    """What was left for the audit log, in the order of the tries."""
    found = [read_note(path) for path in left(workshop.config.state)]
    assert all(isinstance(note, Installed) for note in found)
    return sorted((str(note.state), note.version, note.message[:16]) for note in found)


def test_every_try_is_left_for_the_audit_log(workshop):
    workshop.pack()
    built(workshop)
    assert not built(workshop).new
    whole = workshop.bundle.read_bytes()
    workshop.bundle.write_bytes(whole[:-1])
    with pytest.raises(errors.BundleError):
        built(workshop)
    assert notes(workshop) == [("filed", 1, ""), ("refused", 0, "[bundle.format] ")]
    history = Installs(Store(workshop.config.state.store).installs)
    assert history.untold() == []
    first = history.all()[0]
    history.change(first, changed=first.changed, told=False)  # killed just before it was told
    workshop.bundle.write_bytes(whole)
    built(workshop)
    assert [state for state, _, _ in notes(workshop)] == ["filed", "filed", "refused"]


def test_nothing_is_built_that_could_not_be_recorded(workshop):
    workshop.pack()
    workshop.config.state.root.mkdir(exist_ok=True)
    (workshop.config.state.root / "notes").write_text("in the way")
    with pytest.raises(errors.StateError):
        built(workshop)
    assert Store(workshop.config.state.store).models() == []
