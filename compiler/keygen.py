"""A new signing key in two files.

Knows: how they are named. Rules: an existing key is never overwritten. Leaves to others: the files' form
(`appliance.signing`).
"""

from dataclasses import dataclass
from pathlib import Path

from appliance.errors import KeyFileError
from appliance.signing import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """Where the two halves are, and the key id that bundles name their signer by."""

    private: Path
    public: Path
    key_id: str


def generate_key(name: Path) -> KeyFiles:
    """Write NAME.pem (mode 0600) and NAME.pub. Raises KeyFileError when one exists, StateError."""
    stem = str(name).removesuffix(".pem")
    private, public = Path(f"{stem}.pem"), Path(f"{stem}.pub")
    for path in (private, public):
        if path.exists():
            raise KeyFileError(
                f"{path} exists", remedy="choose another name; a lost key cannot be made again"
            )
    key = SigningKey.generate()
    key.save(private)
    return KeyFiles(private=private, public=public, key_id=key.public.key_id)
