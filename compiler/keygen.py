"""A new signing key in two files.

Knows: how they are named. Rules: an existing key is never overwritten. Leaves to others: the files' form
(`appliance.signing`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ConfigError, KeyFileError
from appliance.modelkeys import ModelSigningKey, P256SigningKey, hint_of
from appliance.signing import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """Where the two halves are, and the key id and hint that bundles name their signer by."""

    private: Path
    public: Path
    key_id: str
    hint: str


KINDS: dict[str, Callable[[], ModelSigningKey]] = {
    "ed25519": SigningKey.generate,
    "p256": P256SigningKey.generate,
}


def generate_key(name: Path, kind: str = "ed25519") -> KeyFiles:
    """Write NAME.pem (mode 0600) and NAME.pub, of a kind in KINDS.

    Raises ConfigError for another kind, KeyFileError when a file exists, StateError.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no kind of key '{kind}'", remedy=f"use {' or '.join(KINDS)}")
    stem = str(name).removesuffix(".pem")
    private, public = Path(f"{stem}.pem"), Path(f"{stem}.pub")
    for path in (private, public):
        if path.exists():
            raise KeyFileError(
                f"{path} exists", remedy="choose another name; a lost key cannot be made again"
            )
    key = KINDS[kind]()
    key.save(private)
    return KeyFiles(
        private=private, public=public, key_id=key.public.key_id, hint=hint_of(key.public)
    )
