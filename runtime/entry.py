"""Entry point of `holdfast-runtime`.

Knows: its options. Rules: the server's rooms are imported only to serve, so that --help is quick and a
Ctrl-C while they load ends as quietly as any other. Leaves to others: serving (`runtime.server`).
"""

import argparse
from pathlib import Path

from appliance.commands import run_command


def main() -> None:
    """Read the options and serve; ends the process with the exit code of what stopped it."""
    run_command(_serve)


def _serve() -> None:
    from appliance.config import load_config  # noqa: PLC0415 - see the rules above
    from appliance.version import release  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="holdfast-runtime", description="Serve the models of one box until SIGTERM or Ctrl-C."
    )
    parser.add_argument("--config", type=Path, help="configuration file (TOML)")
    parser.add_argument("--state", type=Path, help="state directory; overrides the file's")
    parser.add_argument("--version", action="version", version=f"holdfast-runtime {release()}")
    options = parser.parse_args()
    config = load_config(options.config, state=options.state)

    from runtime.server import run  # noqa: PLC0415

    run(config)
