"""A source that was signed before it is packed: by the tool, as a file or with what lies beside it."""

import shutil
from pathlib import Path

import onnx
import pytest

from appliance import errors
from appliance.attestation import attest
from appliance.bundle import open_bundle, unverified_manifest
from appliance.files import sha256_file
from appliance.modelkeys import P256SigningKey, load_public
from compiler.signedsource import covered_by, files_digest, signed_source, source_given

TOOL = Path(__file__).parent.parent / "golden" / "modelsigning"
KEY = P256SigningKey.generate()


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of what the tool signed."""
    return Path(shutil.copytree(TOOL / "tree", tmp_path / "tree"))


@pytest.mark.parametrize("signature", ["tree/model.sig", "single.sig"])
def test_what_the_tool_signed_is_a_signed_source(tree, signature):
    source = signed_source(tree / "model.onnx", TOOL / signature, TOOL / "trainer.pub")
    assert source.signer == load_public(TOOL / "trainer.pub").key_id
    assert sha256_file(tree / "model.onnx") in source.files.values()
    assert source.signature == (TOOL / signature).read_bytes()


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "deep/notes.txt"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_file_that_is_not_as_signed_is_refused(tree, name, how):
    if how == "missing":
        (tree / name).unlink()
    else:
        (tree / name).write_bytes(b"other")
    with pytest.raises(errors.SourceError) as refused:
        signed_source(tree / "model.onnx", tree / "model.sig", TOOL / "trainer.pub")
    assert name in str(refused.value)


def test_a_model_that_was_not_signed_is_refused(tree):
    shutil.copy(tree / "model.onnx", tree / "other.onnx")
    with pytest.raises(errors.SourceError) as refused:
        signed_source(tree / "other.onnx", tree / "model.sig", TOOL / "trainer.pub")
    assert "other.onnx" in str(refused.value)


def test_another_signer_is_refused(tree, tmp_path):
    KEY.public.save(tmp_path / "other.pub")
    with pytest.raises(errors.BundleUntrusted, match=r"other\.pub"):
        signed_source(tree / "model.onnx", tree / "model.sig", tmp_path / "other.pub")
    with pytest.raises(errors.SourceError):
        signed_source(tree / "model.onnx", tree / "missing", TOOL / "trainer.pub")


def test_a_signature_never_leads_out_of_its_directory(tree, tmp_path):
    KEY.public.save(tmp_path / "key.pub")
    secret = tmp_path / "secret"
    secret.write_text("x")
    named = {"model.onnx": sha256_file(tree / "model.onnx"), "../secret": sha256_file(secret)}
    (tree / "model.sig").write_bytes(attest("x", named, {}, KEY))
    with pytest.raises(errors.SourceError):
        signed_source(tree / "model.onnx", tree / "model.sig", tmp_path / "key.pub")


def test_signature_and_key_go_together():
    assert source_given(Path("m"), None, None) is None
    for given in ((Path("s"), None), (None, Path("k"))):
        with pytest.raises(errors.ConfigError):
            source_given(Path("m"), *given)


def test_it_travels_with_the_bundle(workshop):
    KEY.public.save(workshop.directory / "trainer.pub")
    signature = workshop.directory / "model.sig"
    signature.write_bytes(attest("x", {".": sha256_file(workshop.model)}, {}, KEY))
    source = signed_source(workshop.model, signature, workshop.directory / "trainer.pub")
    packed = workshop.pack(source=source)
    assert packed.manifest.source_signer == KEY.public.key_id
    with open_bundle(workshop.bundle) as file:
        _, manifest = unverified_manifest(file)
    assert "source.sig" in {item.name for item in manifest.files}


@pytest.mark.parametrize("weights_signed", [True, False])
def test_weights_in_another_file_must_be_signed_too(workshop, weights_signed):
    model = onnx.load(workshop.model)
    onnx.save(
        model,
        workshop.model,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    names = ["tiny.onnx", "weights.bin"] if weights_signed else ["tiny.onnx"]
    digests = {name: sha256_file(workshop.directory / name) for name in names}
    signature, public = workshop.directory / "model.sig", workshop.directory / "trainer.pub"
    signature.write_bytes(attest("x", digests, {}, KEY))
    KEY.public.save(public)
    source = signed_source(workshop.model, signature, public)
    if not weights_signed:
        with pytest.raises(errors.SourceError):
            workshop.pack(source=source)
        return
    manifest = workshop.pack(source=source).manifest
    assert manifest.source_files == {
        "": digests["tiny.onnx"],
        "weights.bin": digests["weights.bin"],
    }
    assert files_digest(manifest.source_files) == manifest.source_sha256


def test_what_covers_a_source_of_several_files():
    files = {"": "aa", "w/1": "bb"}
    digest = files_digest(files)
    assert covered_by({"m": "aa", "w/1": "bb"}, digest, files)
    assert covered_by({"d/m": "aa", "d/w/1": "bb"}, digest, files)
    assert not covered_by({"d/m": "aa", "w/1": "bb"}, digest, files)
    assert not covered_by({"m": "aa", "w/1": "cc"}, digest, files)
    assert not covered_by({"m": "aa", "w/1": "bb"}, "other", files)
    assert covered_by({"m": "aa"}, "aa", {})


def test_a_model_changed_while_it_is_packed_is_refused(workshop, make_onnx):
    KEY.public.save(workshop.directory / "trainer.pub")
    signature = workshop.directory / "model.sig"
    signature.write_bytes(attest("x", {".": sha256_file(workshop.model)}, {}, KEY))
    source = signed_source(workshop.model, signature, workshop.directory / "trainer.pub")
    changed = make_onnx()
    changed.producer_name = "somebody else"
    onnx.save(changed, workshop.model)
    with pytest.raises(errors.SourceError):
        workshop.pack(source=source)
    assert not workshop.bundle.exists()
