"""holdfast-compile as a person and as a script meet it."""

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.signing import PublicKey, SigningKey
from compiler.cli import app

EXITS = {"config": 10, "state": 11, "key": 12, "bundle": 13, "spec": 14, "source": 15}


@pytest.fixture
def run(workshop, monkeypatch):
    """Runs a command in the workshop, with its state directory."""
    monkeypatch.chdir(workshop.directory)
    monkeypatch.delenv("HOLDFAST_CONFIG", raising=False)

    def run(*arguments, code: int = 0, state: bool = True):
        named = ["--state", "state"] if state and arguments[0] != "keygen" else []
        result = CliRunner().invoke(app, [*map(str, arguments), *named])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def key_file(workshop) -> Path:
    """The workshop's private key as a file."""
    path = workshop.directory / "engineer.pem"
    workshop.key.save(path)
    return path


def pack_arguments(key: Path | None = None) -> list:
    arguments = ["pack", "tiny.onnx", "--spec", "tiny.toml", "-o", "tiny.holdfast"]
    return arguments if key is None else [*arguments, "--key", key]


def test_from_key_to_version_as_the_readme_does(run, workshop):
    run("keygen", "mine")
    (workshop.config.state.trust / "mine.pub").write_bytes(Path("mine.pub").read_bytes())
    packed = run(*pack_arguments(Path("mine.pem")))
    assert "accuracy of scores 1.0000 on 60 held-out rows (agreed: at least 0.9)" in packed.stdout
    built = run("build", "tiny.holdfast")
    assert "tiny 1" in built.stdout.splitlines()[0]
    assert ", kept" in built.stdout
    assert "built before" in run("build", "tiny.holdfast").stdout
    assert "signature   trusted" in run("inspect", "tiny.holdfast").stdout
    assert "why" in run("inspect", "tiny/1").stdout


def test_a_bundle_never_replaces_the_key(run, workshop, key_file):
    data = key_file.read_bytes()
    arguments = ["pack", "tiny.onnx", "--spec", "tiny.toml", "-o", key_file, "--key", key_file]
    assert "made from" in run(*arguments, code=EXITS["config"]).stderr
    assert key_file.read_bytes() == data


@pytest.mark.parametrize("name", ["a" * 300, "é" * 200])
def test_a_name_that_no_file_can_have_is_told(run, name):
    assert "cannot read" in run("inspect", f"{name}/1", code=EXITS["bundle"]).stderr


def test_results_are_json_on_request(run, workshop, key_file):
    packed = json.loads(run(*pack_arguments(key_file), "--json").stdout)
    digest = hashlib.sha256(workshop.bundle.read_bytes()).hexdigest()
    assert packed["sha256"] == digest
    assert packed["signer"] == workshop.key.public.key_id
    assert packed["reached"][0]["value"] == 1.0

    built = json.loads(run("build", "tiny.holdfast", "--json").stdout)
    assert (built["model"], built["version"], built["new"]) == ("tiny", 1, True)
    assert built["record"]["bundle_sha256"] == digest
    assert {item["engine"] for item in built["record"]["trials"]} == {
        "onnxruntime",
        "onnxruntime-portable",
        "openvino",
    }
    assert not json.loads(run("build", "tiny.holdfast", "--json").stdout)["new"]

    bundle = json.loads(run("inspect", "tiny.holdfast", "--json").stdout)
    assert (bundle["signature"], bundle["sha256"]) == ("trusted", digest)
    version = json.loads(run("inspect", "tiny/1", "--json").stdout)
    assert version["manifest"] == bundle["manifest"] == built["manifest"]


def test_keygen_writes_a_pair_and_overwrites_nothing(run):
    told = run("keygen", "mine").stdout
    assert stat.S_IMODE(Path("mine.pem").stat().st_mode) == 0o600
    public = PublicKey.load(Path("mine.pub"))
    assert public.key_id in told
    assert SigningKey.load(Path("mine.pem")).public.raw == public.raw
    for name in ("mine", "mine.pem"):
        assert "exists" in run("keygen", name, code=EXITS["key"]).stderr
    Path("mine.pem").unlink()
    run("keygen", "mine", code=EXITS["key"])
    assert PublicKey.load(Path("mine.pub")).raw == public.raw


def test_an_error_is_told_with_code_and_remedy_and_its_exit_code(run, workshop):
    workshop.model.write_bytes(b"not a model")
    failed = run(*pack_arguments(), code=EXITS["source"])
    assert failed.stdout == ""
    assert failed.stderr.startswith("error [source.format]: tiny.onnx is not an ONNX")
    assert "\nremedy: " in failed.stderr
    assert not workshop.bundle.exists()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["build", "missing.holdfast"], "bundle"),
        (["build", "tiny.onnx"], "bundle"),
        (["inspect", "missing.holdfast"], "bundle"),
        (["inspect", "tiny.onnx"], "bundle"),
        (["build", "tiny.onnx", "--config", "missing.toml"], "config"),
        (["pack", "tiny.onnx", "--spec", "tiny.onnx", "-o", "x"], "spec"),
        (["pack", "tiny.onnx", "--spec", "tiny.toml", "-o", "x", "--key", "none.pem"], "key"),
        (["pack", "tiny.onnx", "--spec", "tiny.toml", "-o", "tiny.onnx/x"], "state"),
    ],
)
def test_failures_have_their_exit_codes(run, arguments, kind):
    failed = run(*arguments, code=EXITS[kind])
    assert failed.stderr.startswith(f"error [{kind}.")


def test_an_unknown_version_is_told(run, workshop):
    assert "unknown model 'tiny'" in run("inspect", "tiny/1", code=18).stderr
    workshop.pack()
    workshop.build()
    assert "no version 2" in run("inspect", "tiny/2", code=18).stderr
    assert "'x' is not a version number" in run("inspect", "tiny/x", code=18).stderr


def test_a_missed_threshold_is_17(run, workshop, make_rows):
    labels = [3] * 60
    workshop.save_rows("held_out", person=make_rows(60), label=labels)
    assert "[proof.threshold]" in run(*pack_arguments(), code=17).stderr


def test_the_four_states_of_a_signature_are_shown(run, workshop, key_file):
    run(*pack_arguments())
    assert "signature   unsigned" in run("inspect", "tiny.holdfast").stdout
    run(*pack_arguments(key_file))
    assert "signature   trusted" in run("inspect", "tiny.holdfast").stdout
    whole = workshop.bundle.read_bytes()
    sig, body = whole.index(b'"sig":"') + 30, 20 + int.from_bytes(whole[16:20], "little")
    size = (int.from_bytes(whole[12:16], "little") + 1).to_bytes(4, "little")
    for changed in (
        whole[:sig] + (b"A" if whole[sig : sig + 1] != b"A" else b"B") + whole[sig + 1 :],
        # a space where JSON does not mind one, so that the manifest still parses
        whole[:12] + size + whole[16 : body + 1] + b" " + whole[body + 1 :],
        whole[:21] + b"?" + whole[22:],  # no signature file at all
        whole[:-1] + bytes([whole[-1] ^ 1]),
    ):
        workshop.bundle.write_bytes(changed)
        assert "signature   does not fit" in run("inspect", "tiny.holdfast").stdout
    workshop.bundle.write_bytes(whole)
    (workshop.config.state.trust / "engineer.pub").unlink()
    assert "signature   untrusted" in run("inspect", "tiny.holdfast").stdout
    run("trust", "add", key_file.with_suffix(".pub"), "--name", "engineer", "--model", "other-*")
    assert "signature   untrusted" in run("inspect", "tiny.holdfast").stdout
    run("trust", "revoke", "engineer", "--reason", "left")
    assert "signature   revoked" in run("inspect", "tiny.holdfast").stdout


def test_an_unsigned_bundle_is_said_to_be_of_no_use(run):
    assert "no box will build it" in run(*pack_arguments()).stdout


def test_an_interrupt_ends_with_130(run, workshop, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("compiler.build.build", interrupted)
    failed = run("build", "tiny.holdfast", code=130)
    assert failed.stderr == "\ninterrupted\n"


def test_the_state_directory_comes_from_the_configuration(run, workshop):
    workshop.pack()
    Path("box.toml").write_text('[state]\ndirectory = "state"\n')
    told = run("build", "tiny.holdfast", "--config", "box.toml", state=False)
    assert "tiny 1" in told.stdout.splitlines()[0]
    assert (
        "unknown model" in run("inspect", "tiny/1", "--state", "other", code=18, state=False).stderr
    )


@pytest.mark.parametrize("command", [[], ["pack"], ["build"], ["inspect"], ["keygen"]])
def test_every_command_explains_itself(command):
    told = CliRunner().invoke(app, [*command, "--help"])
    assert told.exit_code == 0
    assert "Usage" in told.stdout


def test_a_wrong_command_line_is_2():
    assert CliRunner().invoke(app, ["pack"]).exit_code == 2
    assert CliRunner().invoke(app, ["bild"]).exit_code == 2


def test_help_needs_no_heavy_room(workshop):
    """A person who asks for help should not wait for compilers to be imported."""
    code = (
        "import sys, compiler.cli\n"
        "heavy = {'numpy', 'numba', 'onnx', 'onnxruntime', 'openvino', 'cryptography', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr


def test_a_mark_is_overruled_as_its_remedy_says(run, workshop):
    workshop.change(
        '"scores"\nminimum = 0.9', '"scores"\nminimum = 0.9\n[limits]\nlatency_ms_max = 1e-9'
    )
    workshop.pack()
    run("build", "tiny.holdfast", code=17)
    assert "add --again" in run("build", "tiny.holdfast", code=26).stderr
    run("build", "tiny.holdfast", "--again", code=17)
    assert "fits this box" in run("refresh", "--again").stdout


def test_a_report_is_of_a_version_whatever_files_are_called(run, workshop):
    workshop.pack()
    workshop.build()
    (workshop.directory / "tiny").mkdir()
    (workshop.directory / "tiny" / "1").write_bytes(b"a file of this name")
    assert "model" in run("report", "tiny/1").stdout
    run("inspect", "tiny/1", code=EXITS["bundle"])
