"""Access: who calls, what that principal may, and how much of the box it may take.

Knows: principals, the one table of calls, limits. Rules: shut by default: a caller without a principal, a
call that is not in the table and a role that the table does not name are refused; every refusal is
recorded; deciding costs a request a look into a dictionary. Leaves to others: certificates and their
denylist (`runtime.certificates`), carrying the answer (`runtime.transport`).
"""

from runtime.access.allowance import Allowance
from runtime.access.binding import check_access, is_open
from runtime.access.door import Arrival, Door, open_door
from runtime.access.methods import CONTROL_METHODS, METHODS, Rule
from runtime.access.people import CALLER, Person, Roster, caller_name, person_behind
from runtime.access.principal import ANYONE, Principal

__all__ = [
    "ANYONE",
    "CALLER",
    "CONTROL_METHODS",
    "METHODS",
    "Allowance",
    "Arrival",
    "Door",
    "Person",
    "Principal",
    "Roster",
    "Rule",
    "caller_name",
    "check_access",
    "is_open",
    "open_door",
    "person_behind",
]
