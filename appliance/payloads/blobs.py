"""Large bodies of payloads, a file each, named by the SHA-256 of what is in it.

Knows: the directory of the files. Rules: equal bodies share a file; a file that does not fit its name is not
read. Leaves to others: which bodies are large, when nobody needs a file any more (`payloads.writer`).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import PayloadBroken
from appliance.files import open_regular, sync_directory, write_file

_MODE = 0o640


class Blobs:
    """The files below one directory, in folders by the first two digits of their names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, data: bytes) -> str:
        """Make `data` durable and return its name, 64 hex digits. Raises StateError."""
        name = hashlib.sha256(data).hexdigest()
        try:
            known = self.read(name) == data
        except PayloadBroken:
            known = False  # missing, or damaged: made anew
        if not known:
            write_file(self._path(name), data, mode=_MODE)
        return name

    def read(self, name: str) -> bytes:
        """The bytes of file `name`. Raises PayloadBroken when it is missing or changed."""
        try:
            with open_regular(self._path(name)) as file:
                data = file.read()
        except OSError as error:
            raise _broken(f"the payload file {name[:16]} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != name:
            raise _broken(f"the payload file {name[:16]} was changed")
        return data

    def remove(self, names: Iterable[str]) -> None:
        """Remove these files; one that is gone already is no error. Raises OSError."""
        for name in names:
            path = self._path(name)
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_directory(path.parent)

    def names(self) -> set[str]:
        """Every file there is; a write that was cut short counts, by its temporary name."""
        return {path.name for path in self._directory.glob("??/*")} | {
            path.name for path in self._directory.glob("??/.*")
        }

    def _path(self, name: str) -> Path:
        return self._directory / name.lstrip(".")[:2] / name


def _broken(message: str) -> PayloadBroken:
    return PayloadBroken(
        message, remedy="restore the file from a copy; the audit log itself is not affected"
    )
