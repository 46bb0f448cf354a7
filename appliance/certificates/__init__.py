"""Certificates of a site without a certificate authority of its own (a door).

Knows: how a certificate is read, issued, renewed and denied. Rules: the authority's key is kept off the box; a
private key is readable by its owner alone; lives are short. Leaves to others: TLS itself (`runtime.transport`),
what a role may do (`runtime.access`).
"""

from appliance.certificates.authority import Authority, Issue, Issued, Ledger
from appliance.certificates.certificate import Certificate, State, read_chain
from appliance.certificates.denylist import Denylist
from appliance.certificates.names import ROLES, SERVER, spiffe_id

__all__ = [
    "ROLES",
    "SERVER",
    "Authority",
    "Certificate",
    "Denylist",
    "Issue",
    "Issued",
    "Ledger",
    "State",
    "read_chain",
    "spiffe_id",
]
