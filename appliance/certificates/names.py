"""What a certificate calls its owner: a SPIFFE id, spiffe://SITE/ROLE/NAME.

Knows: the form of the id (SPIFFE-ID, sections 2.1 and 2.2) and the roles in it. Rules: pure; what does not fit is
refused, never bent. Leaves to others: what a role may do.
"""

import re

from appliance.errors import CertificateError

SERVER = "server"
ROLES = (SERVER, "client", "operator", "auditor", "engineer")
_SITE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_site(site: str) -> str:
    """`site` as a SPIFFE trust domain; CertificateError when it is none."""
    return _checked(site, _SITE, "site", "lower-case letters, digits, dots, dashes")


def check_name(name: str) -> str:
    """`name` as the last part of an id; CertificateError when it cannot be."""
    return _checked(name, _NAME, "name", "letters, digits, dots, dashes, underscores")


def spiffe_id(site: str, role: str, name: str) -> str:
    """The id of `name` in `role` at `site`; CertificateError when a part does not fit."""
    if role not in ROLES:
        raise CertificateError(
            f"there is no role '{role}'", remedy=f"use one of {', '.join(ROLES)}"
        )
    return f"spiffe://{check_site(site)}/{role}/{check_name(name)}"


def _checked(text: str, form: re.Pattern[str], what: str, letters: str) -> str:
    if not form.fullmatch(text):
        raise CertificateError(
            f"'{text}' cannot be the {what} in a certificate",
            remedy=f"use at most 63 {letters}, the first a letter or digit",
        )
    return text
