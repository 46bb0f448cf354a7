"""Which box a command is about, and who gives it.

Knows: how --config and --state choose the configuration; the login name of whoever is at the keyboard.
Rules: a decision is recorded under a name the system knows, not one that the environment claims. Leaves
to others: reading the file (`appliance.config`).
"""

import os
import pwd
from pathlib import Path

import msgspec

from appliance.config import Config, StateConfig, load_config


def chosen_config(config: Path | None, state: Path | None) -> Config:
    """The settings in `config` (else where load_config looks), with `state` as state directory.

    Raises ConfigError when the file is missing or wrong.
    """
    chosen = load_config(config)
    if state is None:
        return chosen
    return msgspec.structs.replace(chosen, state=StateConfig(directory=str(state)))


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
