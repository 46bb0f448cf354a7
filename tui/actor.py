"""Who sits at the keyboard.

Knows: the login name of the caller, and the account that the runtime's kernel sees. Rules: a decision is recorded under a name the system knows, not one
that the environment claims. Leaves to others: whether that person may decide (who may open the socket).
"""

import os
import pwd


def login_name() -> str:
    """The account this process runs under; under sudo, the one that called sudo.

    The environment is believed only for root, who could claim any name anyway.
    """
    user = os.getuid()
    caller = os.environ.get("SUDO_USER", "")
    if user == 0 and caller:
        return caller
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


def account_name() -> str:
    """The account that the runtime records as the actor: whose process this is, by the kernel's word (SO_PEERCRED)."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"
