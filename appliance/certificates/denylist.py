"""Certificates that are turned away although they still hold.

Knows: the denylist's lines. Rules: a line is `serial HEX` or `uri URI`, a remark after `#`; a line that is none is
an error, so that a slip of the pen lets nobody in. Leaves to others: when it is read, and turning away.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.certificates.certificate import Certificate
from appliance.errors import CertificateError

_LINE = re.compile(r"(?:serial[ \t]+([0-9A-Fa-f:]+)|uri[ \t]+(\S+))[ \t]*")


@dataclass(frozen=True, slots=True)
class Denylist:
    """Serial numbers (lower-case hex) and URIs that are denied."""

    serials: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """How many entries it has."""
        return len(self.serials) + len(self.uris)

    @property
    def lines(self) -> list[str]:
        """Its entries as lines of the file, in order."""
        serials = [f"serial {serial}" for serial in self.serials]
        return sorted([*serials, *(f"uri {uri}" for uri in self.uris)])

    def reason(self, certificate: Certificate, *names: str) -> str:
        """Why `certificate`, or its owner by one of `names`, is denied; "" when it is not."""
        if certificate.serial in self.serials:
            return f"certificate {certificate.serial} is on the denylist"
        for name in (*certificate.uris, *names):
            if name in self.uris:
                return f"{name} is on the denylist"
        return ""

    @classmethod
    def read(cls, path: Path) -> "Denylist":
        """Read the list at `path`. Raises CertificateError naming the line that is none."""
        try:
            return cls.parse(path.read_text("utf-8"), where=str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise CertificateError(
                f"cannot read the denylist {path}: {error}",
                remedy="check the path; an empty file denies nobody",
            ) from error

    @classmethod
    def parse(cls, text: str, *, where: str) -> "Denylist":
        """The list that `text` spells; CertificateError, with `where`, at a line that is none."""
        serials, uris = set[str](), set[str]()
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.split("#", 1)[0].strip()
            if not entry:
                continue
            found = _LINE.fullmatch(entry)
            serial = found[1].replace(":", "") if found and found[1] else ""
            if found is None or (found[1] and not serial):
                raise CertificateError(
                    f"{where}, line {number}: '{entry}' denies nothing",
                    remedy="write `serial HEX` or `uri URI`, and remarks after #",
                )
            if found[2]:
                uris.add(found[2])
            else:
                serials.add(f"{int(serial, 16):x}")
        return cls(frozenset(serials), frozenset(uris))
