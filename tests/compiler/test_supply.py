"""The bill of materials, taking a bundle apart, and the commands about signers and installs."""

import errno
import hashlib
import json

import pytest
from typer.testing import CliRunner

from appliance import errors
from appliance.attestation import open_attestation
from appliance.files import unwritable
from appliance.modelkeys import P256SigningKey
from compiler.cli import app
from compiler.signingtime import signing_time
from compiler.unpack import unpack


def run(workshop, *arguments, code=0):
    state = ["--state", str(workshop.config.state.root)]
    result = CliRunner().invoke(app, [*map(str, arguments), *state])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def bom(workshop) -> dict:
    _, contents = workshop.contents()
    return json.loads(contents["bom.cdx.json"])


def test_the_bill_of_materials_tells_of_the_model_and_its_making(workshop):
    workshop.change("batch_max = 8", "batch_max = 8\nedition = 3")
    workshop.pack()
    manifest, contents = workshop.contents()
    told = bom(workshop)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    model = told["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == (
        "machine-learning-model",
        "tiny",
        "3",
    )
    digest = hashlib.sha256(contents["model.onnx"]).hexdigest()
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
    (metric,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], float(metric["value"])) == ("accuracy of scores", 1.0)
    parts = {part["bom-ref"]: part for part in told["components"]}
    assert parts["source"]["hashes"][0]["content"] == manifest.source_sha256
    assert parts["framework:numpy"]["version"] == "2"
    assert told["dependencies"][0]["dependsOn"] == list(parts)


def test_equal_content_has_an_equal_bill_and_other_content_another(workshop):
    workshop.pack()
    first = workshop.bundle.read_bytes(), bom(workshop)
    workshop.pack()
    assert (workshop.bundle.read_bytes(), bom(workshop)) == first
    workshop.change('"the first"', '"the second"')
    workshop.pack()
    assert bom(workshop)["serialNumber"] != first[1]["serialNumber"]


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_bundle_taken_apart_is_what_was_signed(workshop, kind):
    if kind == "p256":
        workshop.key = P256SigningKey.generate()
    workshop.pack()
    out = workshop.directory / "out"
    told = unpack(workshop.bundle, out)
    _, said = open_attestation((out / "model.sig").read_bytes(), [workshop.key.public])
    found = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and path.name != "model.sig"
    }
    assert found == said.files
    assert set(told.files) == set(found)
    assert told.signer == workshop.key.public.key_id
    with pytest.raises(errors.ConfigError):
        unpack(workshop.bundle, out)


def test_an_unsigned_bundle_is_taken_apart_without_a_signature(workshop):
    workshop.pack(signed=False)
    told = unpack(workshop.bundle, workshop.directory / "out")
    assert (told.signature, told.signer, told.hint) == (None, None, None)


def test_a_changed_bundle_is_not_taken_apart(workshop):
    workshop.pack()
    data = bytearray(workshop.bundle.read_bytes())
    data[-1] ^= 1
    workshop.bundle.write_bytes(data)
    with pytest.raises(errors.BundleContent):
        unpack(workshop.bundle, workshop.directory / "out")
    assert not (workshop.directory / "out").exists()


def test_a_disk_that_is_full_leaves_nothing_in_the_way_of_the_next_try(workshop, monkeypatch):
    workshop.pack()
    out = workshop.directory / "out"

    def full(path, *_):
        raise unwritable(path, OSError(errno.ENOSPC, "No space left on device"))

    with monkeypatch.context() as patched:
        patched.setattr("compiler.unpack.write_file", full)
        with pytest.raises(errors.StateError):
            unpack(workshop.bundle, out)
    assert not out.exists()
    assert (unpack(workshop.bundle, out).directory / "model.onnx").exists()


def test_the_command_takes_a_bundle_apart(workshop):
    workshop.pack()
    out = workshop.directory / "out"
    arguments = ["unpack", str(workshop.bundle), "--output", str(out)]
    text = CliRunner().invoke(app, arguments).stdout
    assert "model.sig" in text
    assert "not verified here" in text
    arguments[-1] += "2"
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert told["signer"] == workshop.key.public.key_id


def test_signers_are_added_listed_and_revoked(workshop):
    key = workshop.directory / "anna.pub"
    P256SigningKey.generate().public.save(key)
    (workshop.config.state.trust / "engineer.pub").unlink()
    assert "nobody is trusted" in run(workshop, "trust", "list").stdout
    added = run(workshop, "trust", "add", key, "--model", "tiny", "--until", "2030-01-01").stdout
    assert "bundle of tiny" in added
    run(workshop, "trust", "add", key, "--role", "source", "--role", "bundle", "--json")
    assert "bundle, source" not in run(workshop, "trust", "list").stdout
    (row,) = json.loads(run(workshop, "trust", "list", "--json").stdout)["signers"]
    assert (row["name"], row["kind"], row["roles"]) == ("anna", "p256", ["source", "bundle"])
    assert "stolen" in run(workshop, "trust", "revoke", "anna", "--reason", "stolen").stdout
    assert "revoked" in run(workshop, "trust", "list").stdout
    assert "[key.unusable]" in run(workshop, "trust", "add", key, code=12).stderr
    assert "[key.unusable]" in run(workshop, "trust", "add", key, "--role", "x", code=12).stderr
    assert (
        "[key.unusable]" in run(workshop, "trust", "revoke", "x", "--reason", "y", code=12).stderr
    )


def test_the_history_of_installs_is_shown(workshop):
    assert "nothing was ever installed" in run(workshop, "installs").stdout
    workshop.change("batch_max = 8", "batch_max = 8\nedition = 3")
    workshop.pack()
    workshop.build()
    workshop.bundle.write_bytes(workshop.bundle.read_bytes()[:-1])
    run(workshop, "build", workshop.bundle, code=13)
    text = run(workshop, "installs").stdout
    assert "filed        tiny version 1, edition 3" in text
    assert "[bundle.format] the bundle is cut short" in text
    states = [
        item["state"] for item in json.loads(run(workshop, "installs", "--json").stdout)["installs"]
    ]
    assert states == ["filed", "refused"]


def test_a_path_that_is_no_file_is_no_try(workshop):
    run(workshop, "build", workshop.directory / "missing", code=13)
    assert "nothing was ever installed" in run(workshop, "installs").stdout


def test_keys_are_made_of_either_kind(workshop):
    for kind, size in (("ed25519", 113), ("p256", 178)):
        name = workshop.directory / kind
        made = CliRunner().invoke(app, ["keygen", str(name), "--kind", kind])
        assert "hint" in made.stdout
        assert len(name.with_suffix(".pub").read_bytes()) == size
    assert CliRunner().invoke(app, ["keygen", "x", "--kind", "rsa"]).exit_code == 10


def test_a_signing_time_is_a_time():
    assert signing_time(None) is None
    assert signing_time("2026-11-21") == "2026-11-21T00:00:00+00:00"
    assert signing_time("now").endswith("Z")
    with pytest.raises(errors.ConfigError):
        signing_time("soon")
