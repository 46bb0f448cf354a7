"""Who opened the control socket, by the system's own word.

Knows: SO_PEERCRED and SO_PEERGROUPS (unix(7)), users and groups by name. Rules: the kernel says who it is,
never the caller; root and the runtime's own user steer; everybody else has the mightiest role that the
configuration gives to one of their groups, or none. Leaves to others: the socket (`runtime.transport.control`).
"""

import ctypes
import grp
import os
import pwd
import socket
import struct
from contextvars import ContextVar
from dataclasses import dataclass

from appliance.access import Role
from appliance.config import AccessConfig
from appliance.errors import Unidentified
from runtime.access.methods import CONTROL_METHODS, check_role

SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
GROUPS_MAX = 65_536  # NGROUPS_MAX of linux/limits.h
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user of the system; `groups` are all of the process that called, by number."""

    uid: int
    pid: int
    groups: tuple[int, ...]

    @property
    def peer(self) -> str:
        """What records keep for an address."""
        return f"unix:uid={self.uid},pid={self.pid}"

    @property
    def name(self) -> str:
        """The account's name, "uid 1001" when it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"


# Who makes the call of the control socket that is being answered; None outside of one.
CALLER: ContextVar[Person | None] = ContextVar("CALLER", default=None)


def caller_name() -> str:
    """The account that makes the call being answered: this process's own outside of one."""
    person = CALLER.get() or Person(uid=os.geteuid(), pid=os.getpid(), groups=())
    return person.name


def person_behind(connection: socket.socket) -> Person:
    """Who connected to a Unix socket. Raises OSError."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(told)
    return Person(uid=uid, pid=pid, groups=(gid, *_groups_behind(connection)))


def _groups_behind(connection: socket.socket) -> list[int]:
    """The further groups of who connected. Raises OSError.

    By the C library, for Python's own getsockopt holds 1024 bytes: 256 groups, and a domain's users may have more.
    """
    groups = (ctypes.c_uint32 * GROUPS_MAX)()
    size = ctypes.c_uint32(ctypes.sizeof(groups))
    library = ctypes.CDLL(None, use_errno=True)
    if library.getsockopt(
        connection.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, groups, ctypes.byref(size)
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return groups[: size.value // ctypes.sizeof(ctypes.c_uint32)]


class Roster:
    """Roles of the people of this box, by their groups. Raises nothing: a group that is not there has nobody."""

    def __init__(self, config: AccessConfig) -> None:
        self._config = config

    def check(self, person: Person, method: str) -> None:
        """Raise Unidentified or Forbidden unless `person` may call `method` of the control socket."""
        role = self.role(person)
        if role is None:
            raise Unidentified(
                f"'{person.name}' has no role on this box",
                remedy="let the user join a group that [access] operator_groups, auditor_groups "
                "or engineer_groups names",
            )
        check_role(person.name, role, method, CONTROL_METHODS)

    def role(self, person: Person) -> Role | None:
        """The role of `person`, None without one; who is in several groups has the mightiest."""
        if person.uid in {0, os.geteuid()}:
            return Role.OPERATOR
        for role, names in (
            (Role.OPERATOR, self._config.operator_groups),
            (Role.ENGINEER, self._config.engineer_groups),
            (Role.AUDITOR, self._config.auditor_groups),
        ):
            if any(_number(name) in person.groups for name in names):
                return role
        return None


def _number(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1
