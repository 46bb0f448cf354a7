"""A bundle taken apart into a directory that other tools understand.

Knows: what lies there: the bundle's files, manifest.json and model.sig. Rules: only an intact bundle is taken
apart, whoever signed it; nothing that exists is written over. Leaves to others: what the files mean.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.attestation import SIGNATURE_NAME
from appliance.bundle import (
    MANIFEST_FILE,
    check_files,
    extract,
    manifest_body,
    open_bundle,
    unverified_manifest,
)
from appliance.errors import ConfigError
from appliance.files import unwritable, write_file
from appliance.modelkeys import hint_of, public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """Where the files are and who claims to have signed them; `signature` None for format 1 or unsigned."""

    directory: Path
    files: tuple[str, ...]
    signature: Path | None
    signer: str | None
    hint: str | None


def unpack(bundle: Path, directory: Path) -> Unpacked:
    """Write the files of `bundle` into `directory`, which must not exist yet.

    The signature is not verified here: that is for whoever reads model.sig. Raises BundleError and its
    kinds, ConfigError, StateError.
    """
    with open_bundle(bundle) as file:
        header, manifest = unverified_manifest(file)
        begin = file.tell()
        check_files(file, manifest)
        file.seek(begin)
        try:
            directory.mkdir(parents=True)
        except FileExistsError as error:
            raise ConfigError(
                f"{directory} exists", remedy="give --output the name of a new directory"
            ) from error
        except OSError as error:
            raise unwritable(directory, error) from error
        signature = directory / SIGNATURE_NAME if header.format > 1 and header.signed else None
        try:
            extract(file, manifest, directory)
            file.seek(0)
            write_file(directory / MANIFEST_FILE, manifest_body(file))
            if signature is not None:
                write_file(signature, header.signature)
        except BaseException:
            shutil.rmtree(
                directory, ignore_errors=True
            )  # or it would be in the way of the next try
            raise
    return Unpacked(
        directory=directory,
        files=(MANIFEST_FILE, *(item.name for item in manifest.files)),
        signature=signature,
        signer=header.key_id if header.key else None,
        hint=_hint(header.key),
    )


def _hint(raw: bytes) -> str | None:
    try:
        return hint_of(public_key(raw)) if raw else None
    except ValueError:
        return None
