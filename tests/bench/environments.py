"""The peers' side environments under build/peers: one each, made once, pinned, from pip's own index.

Knows: which packages each peer needs. Rules: the project's own environment is never touched; a peer that
cannot be installed is told with pip's last line and left out; what pip really took is written beside it.
Leaves to others: running the peers (`competitors`).
"""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PEERS = Path("build/peers")
MADE = "made.txt"
FROZEN = "versions.txt"
# The engines are the very releases that ours runs on, so that the servers are compared and not the engines.
ENGINES = tuple(f"{name}=={version(name)}" for name in ("onnxruntime", "openvino"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One side environment: its directory's name and what is installed into it."""

    name: str
    packages: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Where it stands, absolute."""
        return (PEERS / self.name).absolute()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.directory / "bin" / "python"

    @property
    def digest(self) -> str:
        """Names what it was made from; another digest means it must be made again."""
        text = " ".join((*self.packages, *ENGINES, interpreter()))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def ready(self) -> bool:
        """True when it was made whole, from these packages."""
        made = self.directory / MADE
        return made.exists() and made.read_text() == self.digest


ENVIRONMENTS = {
    each.name: each
    for each in (
        Environment(name="mlserver", packages=("mlserver==1.7.1",)),
        Environment(name="pytriton", packages=("nvidia-pytriton==0.7.0",)),
        Environment(name="litserve", packages=("litserve==0.2.19",)),
        Environment(name="bentoml", packages=("bentoml==1.4.39",)),
    )
}


def interpreter() -> str:
    """The Python that side environments are made with.

    The system's where it is of our own series: Triton's Python stub is built against it.
    """
    series = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    system = Path("/usr/bin") / series
    return str(system if system.exists() else Path(sys.executable).resolve())


def make(environment: Environment) -> str:
    """Make one side environment unless it stands; returns "" or why it cannot be had."""
    if environment.ready:
        return ""
    shutil.rmtree(environment.directory, ignore_errors=True)
    environment.directory.parent.mkdir(parents=True, exist_ok=True)
    steps = (
        [interpreter(), "-m", "venv", str(environment.directory)],
        [str(environment.python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:",
         *environment.packages, *ENGINES],
    )  # fmt: skip
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return said[-1] if said else f"{step[0]} ended with {done.returncode}"
    frozen = subprocess.run(
        [environment.python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    )
    (environment.directory / FROZEN).write_text(frozen.stdout)
    (environment.directory / MADE).write_text(environment.digest)
    return ""


def main() -> None:
    """Make every environment, telling each."""
    for environment in ENVIRONMENTS.values():
        print(f"{environment.name}: {', '.join(environment.packages)}", flush=True)
        why = make(environment)
        print(f"  {f'left out: {why}' if why else f'ready in {environment.directory}'}", flush=True)


if __name__ == "__main__":
    main()
