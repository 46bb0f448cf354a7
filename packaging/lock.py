"""Resolve pyproject.toml into requirements.lock, or check that the lock still follows it.

Knows: which requirements are locked (the dependencies and the `dev` extra) and the lock's first lines.
Rules: checking needs neither a network nor an installed package; the lock names no package index and no
address, only versions and hashes, for Python 3.11 to 3.13. Leaves to others: installing (the Makefile).
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
EXTRA = "dev"
COMPILE = (
    "pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header"
    f" --python-version 3.11 --extra {EXTRA}"
)


def main() -> int:
    """Write the lock, or with --check return 1 when it does not follow pyproject.toml."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the lock is current")
    parser.add_argument(
        "--upgrade", action="store_true", help="take newer versions of what is pinned"
    )
    options = parser.parse_args()
    if not options.check:
        return write_lock(upgrade=options.upgrade)
    if LOCK.read_text().startswith(header()):
        return 0
    print("requirements.lock does not follow pyproject.toml: run `make lock`", file=sys.stderr)
    return 1


def header() -> str:
    """The lock's first lines: where it comes from and the digest of what was asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        project["requires-python"],
        sorted(project["dependencies"]),
        sorted(project["optional-dependencies"][EXTRA]),
    ]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    return f"# Made by `make lock` from pyproject.toml.\n# Requirements' SHA-256: {digest}\n"


def write_lock(*, upgrade: bool) -> int:
    """Resolve with uv, which lives in a throw-away environment only; returns 0.

    Versions that the old lock pins stay where they still fit, unless `upgrade`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        pip = [f"{scratch}/bin/python", "-m", "pip", "install", "--quiet", "uv"]
        subprocess.run(pip, check=True)
        resolved = Path(scratch) / "resolved.txt"
        if LOCK.exists() and not upgrade:
            shutil.copy(LOCK, resolved)
        command = [f"{scratch}/bin/uv", *COMPILE.split(), "pyproject.toml", "-o", str(resolved)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        LOCK.write_text(header() + resolved.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
