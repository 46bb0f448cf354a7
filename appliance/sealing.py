"""Box keys sealed to the machine, by systemd-creds.

Knows: the tool's calls and where the service manager looks for sealed credentials. Rules: the key goes through pipes,
never through a file; what was sealed is opened once before it is relied on; root only. Leaves to others: which key,
and when (`tui.commands.key`).
"""

import os
import shutil
import subprocess
from pathlib import Path

from appliance.errors import KeyFileError
from appliance.files import write_file
from appliance.keys import CREDENTIAL
from appliance.signing import SigningKey

STORE = Path("/etc/credstore.encrypted")
TOOL = "systemd-creds"
SECONDS_MAX = 60
REMEDIES = {
    "encrypt": "act as root; `holdfast key seal --with host` needs no TPM",
    "decrypt": "act as root, on the machine that the key was sealed to",
}


def seal(key: SigningKey, path: Path, sealer: str = "auto") -> None:
    """Write `key` sealed to this machine as the credential that `path` is named for.

    `sealer` is what systemd-creds calls --with-key: "auto" takes the TPM where there is one, and the secret of
    this installation. Raises KeyFileError when the tool cannot, StateError.
    """
    sealed = _run(["encrypt", f"--name={path.name}", f"--with-key={sealer}", "-", "-"], key.pem())
    write_file(path, sealed, mode=0o600)
    if opened(path).public.raw != key.public.raw:
        raise KeyFileError(
            f"{path} opens as another key than was sealed",
            remedy="report this with the journal's lines",
        )


def opened(path: Path) -> SigningKey:
    """The key that is sealed in `path`. Raises KeyFileError when this machine cannot open it."""
    try:
        sealed = path.read_bytes()
    except OSError as error:
        raise KeyFileError(
            f"cannot read the sealed key {path}: {error.strerror or error}",
            remedy="act as root; `holdfast key seal` makes it",
        ) from error
    pem = _run(["decrypt", f"--name={path.name}", "-", "-"], sealed)
    return SigningKey.from_pem(pem, where=str(path))


def is_sealed_here() -> bool:
    """Whether a sealed box key lies where the service manager looks."""
    return (STORE / CREDENTIAL).exists()


def _run(arguments: list[str], given: bytes) -> bytes:
    program = shutil.which(TOOL)
    if program is None:
        raise KeyFileError(
            f"{TOOL} is not installed",
            remedy="install systemd 250 or later, or keep the key as a file",
        )
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            [program, *arguments],
            input=given,
            capture_output=True,
            check=False,
            timeout=SECONDS_MAX,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeyFileError(
            f"{TOOL} {arguments[0]} failed: {error}",
            remedy="run it by hand; a TPM that does not answer hangs it",
        ) from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise KeyFileError(
            f"{TOOL} {arguments[0]} failed: {told[-1] if told else done.returncode}",
            remedy=REMEDIES[arguments[0]],
        )
    return done.stdout
