"""A bundle looked at without trusting it."""

import hashlib

import pytest

from compiler import inspection
from compiler.inspection import SignatureState, inspect_bundle


@pytest.mark.parametrize("changed", [False, True])
def test_the_digest_is_of_the_file_that_was_looked_at(workshop, monkeypatch, changed):
    """Also when a file in it does not fit, and when the path names another file in the meantime."""
    workshop.pack()
    data = bytearray(workshop.bundle.read_bytes())
    data[len(data) // 2] ^= changed
    workshop.bundle.write_bytes(data)

    def replaced(*told, real=inspection._signed_by):
        workshop.bundle.rename(workshop.directory / "elsewhere")
        workshop.bundle.write_bytes(b"another file")
        return real(*told)

    monkeypatch.setattr(inspection, "_signed_by", replaced)
    seen = inspect_bundle(workshop.bundle, workshop.config.state.trust)
    assert seen.sha256 == hashlib.sha256(data).hexdigest()
    assert seen.signature is (SignatureState.DOES_NOT_FIT if changed else SignatureState.TRUSTED)
