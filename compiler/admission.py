"""Whether a verified bundle may become a version on this box.

Knows: the order of the questions: who signed it, for this model, in time; is it for such a box and release;
is it newer than what was here; who signed its source. Rules: a bundle that was let in once stays welcome,
for it is only built again; an older edition needs a person's word. Leaves to others: verifying (`intake`).
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from appliance.attestation import open_attestation
from appliance.bundle import Header
from appliance.config import BundlesConfig
from appliance.errors import (
    BundleContent,
    BundleIncompatible,
    BundleOlder,
    BundleSignature,
    BundleUnsigned,
    BundleUntrusted,
    KeyFileError,
)
from appliance.files import open_regular
from appliance.manifest import SOURCE_SIGNATURE_FILE, Manifest
from appliance.trust import Role, TrustStore
from compiler.signedsource import covered_by


class Admission:
    """The rules of one box: `trust` and `bounds`, at `wall_ns` (nanoseconds since 1970, UTC)."""

    def __init__(
        self, trust: TrustStore, bounds: BundlesConfig, *, release: str, wall_ns: int
    ) -> None:
        self._trust, self._bounds, self._release = trust, bounds, release
        self._now = datetime.fromtimestamp(wall_ns / 1e9, UTC)

    def check_signer(self, header: Header, manifest: Manifest) -> None:
        """Whether the signer may sign this. Raises BundleUntrusted, BundleRevoked, BundleExpired."""
        by_signing_time = self._bounds.validity_by == "signing-time"
        try:
            self._trust.check(
                header.key,
                manifest.model,
                now=self._now,
                signed_at=header.signed_at,
                by_signing_time=by_signing_time,
            )
        except KeyFileError as error:  # a signing time that is none
            raise BundleContent(str(error), remedy="pack it with `--signed-at now`") from error

    def check_box(self, manifest: Manifest) -> None:
        """Whether it is made for this box and release. Raises BundleIncompatible."""
        wanted = manifest.minimum_release
        if wanted is not None and _numbers(self._release) < _numbers(wanted):
            raise BundleIncompatible(
                f"the bundle needs release {wanted}, this is {self._release}",
                remedy="update this box first",
            )
        kinds = self._bounds.compatible
        if kinds and manifest.compatible not in kinds:
            made = "no kind of box by name" if manifest.compatible is None else manifest.compatible
            raise BundleIncompatible(
                f"the bundle is for {made}, this box is {', '.join(kinds)}",
                remedy="pack it with `compatible` under [model], or correct [bundles] here",
            )

    def check_source(self, staged: Path, manifest: Manifest) -> None:
        """Whether the source in `staged` is signed as this box demands; see `[bundles] signed_source`.

        A signature that is there is held against the source by whoever signed it, if they are known.
        Raises BundleUnsigned, BundleUntrusted and its kinds, BundleSignature.
        """
        if manifest.source_signer is None:
            if self._bounds.signed_source:
                raise BundleUnsigned(
                    "the source of the bundle is not signed",
                    remedy="sign it with model-signing and pack it with --source-signature",
                )
            return
        keys = self._trust.keys(Role.SOURCE)
        known = any(key.key_id == manifest.source_signer for key in keys.values())
        if not known and not self._bounds.signed_source:
            return  # told by the manifest, vouched for by nobody here
        if not known:
            raise BundleUntrusted(
                f"the source is signed by key {manifest.source_signer[:16]}, "
                "which this box does not trust with sources",
                remedy="if you trust the signer, `holdfast-compile trust add` the .pub file with --role source",
            )
        with open_regular(staged / SOURCE_SIGNATURE_FILE) as file:
            key, said = open_attestation(file.read(), keys.values())
        self._trust.check(key.raw, manifest.model, now=self._now, signed_at=None, role=Role.SOURCE)
        if key.key_id != manifest.source_signer or not covered_by(
            said.files, manifest.source_sha256, manifest.source_files
        ):
            raise BundleSignature(
                "the source's signature is of another source or signer", remedy="pack it again"
            )


def check_edition(manifest: Manifest, newest: int | None, *, older: bool) -> None:
    """Whether it is at least as new as the `newest` edition filed here; `older` allows any.

    Raises BundleOlder.
    """
    if older or newest is None:
        return
    if manifest.edition is None or manifest.edition < newest:
        what = "of no edition" if manifest.edition is None else f"edition {manifest.edition}"
        raise BundleOlder(
            f"the bundle of '{manifest.model}' is {what}, and edition {newest} was installed here",
            remedy="to return to a version that is in the store, roll back; "
            "to build an older bundle all the same, add --older",
        )


def _numbers(release: str) -> tuple[int, ...]:
    """The numbers that a release begins with: 0.1.0.dev3 is 0, 1, 0."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", release)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
