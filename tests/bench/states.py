"""State directories with the bench's models built, active and warm, kept under build/bench between runs.

Knows: how a model becomes a served version by our own commands. Rules: a directory is named by what its
content depends on, so that changed code builds anew; a server runs on a copy, never on the original.
Leaves to others: running the servers that are measured (`servers`).
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from models import MODELS, Model

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
COMMANDS = Path(sys.executable).parent
# What decides how an engine and its kernels come out; the rest of the server may change under a version.
MAKERS = ("appliance", "compiler", "runtime/engines", "runtime/kernels", "tests/bench/models.py")
STORE = "store"


def digest() -> str:
    """Names everything that a built version depends on."""
    found = hashlib.sha256((ROOT / "requirements.lock").read_bytes())
    for maker in MAKERS:
        path = ROOT / maker
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def prepared(name: str, models: Iterable[str], *, keep: bool = False) -> Path:
    """A directory with `state` and `models/NAME.onnx`, every model of it built and active.

    `keep` takes one that stands, whatever code it was made by. Raises SystemExit when a command fails.
    """
    home = BUILD / name
    mark = home / "digest"
    fresh = mark.exists() and (keep or mark.read_text() == digest())
    if not fresh:
        shutil.rmtree(home, ignore_errors=True)
        (home / "models").mkdir(parents=True)
        mark.write_text(digest())
    missing = [each for each in models if not (home / "models" / f"{each}.active").exists()]
    for each in missing:
        print(f"building {each}", file=sys.stderr, flush=True)
        install(home, MODELS[each])
    if missing:
        activate(home, missing)
    return home


def install(home: Path, model: Model) -> None:
    """Pack, build and prove a model into the state directory."""
    folder, state = home / "models", home / "state"
    path, key = folder / f"{model.name}.onnx", home / "engineer.pem"
    model.write(path)
    np.savez(folder / f"{model.name}.npz", **sample(model))
    spec = path.with_suffix(".toml")
    spec.write_text(model.spec)
    if not key.exists():
        command("holdfast-compile", "keygen", str(home / "engineer"))
        (state / "trust").mkdir(parents=True)
        shutil.copy(home / "engineer.pub", state / "trust")
    bundle = folder / f"{model.name}.holdfast"
    command(
        "holdfast-compile", "pack", str(path), "--spec", str(spec), "--key", str(key),
        "-o", str(bundle),
    )  # fmt: skip
    command("holdfast-compile", "build", str(bundle), "--state", str(state))
    bundle.unlink()


def sample(model: Model) -> dict[str, np.ndarray]:
    """Two rows, by the name that the spec expects."""
    return {model.tensor: model.rows(2)}


def activate(home: Path, models: list[str]) -> None:
    """Run the server once: each model becomes active, and its kernels come into the cache."""
    from servers import holdfast

    with holdfast("preparing", home / "state", home, {}) as server:
        for model in models:
            command(
                "holdfast", "activate", model, "1", "--reason", "bench", "--yes",
                "--state", str(server.state),
            )  # fmt: skip
            (home / "models" / f"{model}.active").touch()


def copied(state: Path, target: Path) -> Path:
    """A copy of a state directory; versions, which never change, are linked and not copied."""

    def link_or_copy(source: str, to: str) -> None:
        if (state / STORE) in Path(source).parents:
            Path(to).hardlink_to(source)
        else:
            shutil.copy2(source, to)

    ignored = shutil.ignore_patterns("control.sock", "work")
    return Path(shutil.copytree(state, target, copy_function=link_or_copy, ignore=ignored))


def command(program: str, *arguments: str) -> None:
    """Run one of our commands; ends the bench with its words when it fails."""
    done = subprocess.run(
        [COMMANDS / program, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)}\n{done.stdout}{done.stderr}")
