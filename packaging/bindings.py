"""Install TensorRT's Python bindings for the tests, each release into its own directory below build/bindings.

Knows: packaging/bindings.lock. Rules: nothing is taken that fails its digest, nothing goes into an environment in
use, what is there already is left alone; the wheels hold bindings only, none of NVIDIA's libraries. Leaves to
others: what stands in for the libraries (tests/gpu/bindings.py).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "packaging" / "bindings.lock"
INSTALLED = ROOT / "build" / "bindings"
PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


class Pinned(NamedTuple):
    """A release as the lock pins it: "10.3", "package==10.3.0", digests of its wheels by Python, as "cp311"."""

    release: str
    requirement: str
    digests: dict[str, str]

    @property
    def installed(self) -> bool:
        """Whether this very release is there, for this Python."""
        name, _, version = self.requirement.partition("==")
        told = INSTALLED / self.release / f"{name}-{version}.dist-info" / "WHEEL"
        return told.is_file() and f"Tag: {PYTHON}-" in told.read_text()


def pinned() -> list[Pinned]:
    """What the lock says, in its order."""
    lines = [line.split() for line in LOCK.read_text().splitlines()]
    return [
        Pinned(line[0], line[1], dict(word.split(":") for word in line[2:]))
        for line in lines
        if line and not line[0].startswith("#")
    ]


def install(wanted: Pinned, digest: str, *options: str) -> None:
    """Install one release, in the place of another one. Raises CalledProcessError when pip refuses."""
    target = INSTALLED / wanted.release
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=INSTALLED) as scratch:
        requirement = Path(scratch, "requirement.txt")
        requirement.write_text(f"{wanted.requirement} --hash=sha256:{digest}\n")
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"),
                *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
                *("--target", f"{scratch}/installed", "--requirement", str(requirement)),
                *options,
            ],
            check=True,
        )
        if target.is_dir():
            target.rename(Path(scratch, "former"))
        Path(scratch, "installed").rename(target)  # whole or not at all


def main() -> int:
    """Install every release; further arguments go to pip (--no-index --find-links DIRECTORY)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _, options = parser.parse_known_args()
    failed = 0
    for wanted in pinned():
        digest = wanted.digests.get(PYTHON)
        if wanted.installed:
            continue
        if digest is None:
            print(f"{wanted.requirement}: there is no wheel for {PYTHON}")
            continue
        try:
            install(wanted, digest, *options)
            print(f"{wanted.requirement}: installed into build/bindings/{wanted.release}")
        except subprocess.CalledProcessError:
            print(f"{wanted.requirement}: pip refused it", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
