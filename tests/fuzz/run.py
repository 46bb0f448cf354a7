"""Fuzz every parser for a while: `python tests/fuzz/run.py [--seconds N] [--seed S]`.

Runs the properties in this directory under the profile "fuzz", round after round with seeds S, S+1 and so on,
until the time is over; a round that is then under way is cut off, and what it had found counts. A seed
names its round: give it with --seed to run that again. What breaks a property is printed, its smallest case
is left in build/fuzz/found, and the exit code is 1. Memory of the whole process is bounded too.
"""

import argparse
import resource
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "build" / "fuzz" / "found"  # as in mutating.py
ADDRESSES_MAX = 8 << 30  # bytes; the libraries reserve most of them
PYTEST = ("-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "--hypothesis-profile=fuzz")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long")
    parser.add_argument("--seed", type=int, help="of the first round; at random without it")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    ends, began = time.monotonic() + options.seconds, time.time()
    rounds = 0
    while (left := ends - time.monotonic()) > 0:
        print(f"seed {seed}", flush=True)
        try:
            done = subprocess.run(
                [sys.executable, *PYTEST, f"--hypothesis-seed={seed}", "tests/fuzz"],
                cwd=ROOT,
                check=False,
                timeout=left,
                preexec_fn=_bounded,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            print("time is over: this round was cut off")
            break
        if done.returncode:
            print(done.stdout, done.stderr, f"seed {seed}; see build/fuzz/found", sep="\n")
            return 1
        print(done.stdout.strip().splitlines()[-1], flush=True)
        seed, rounds = seed + 1, rounds + 1
    found = [path for path in FOUND.glob("*") if path.stat().st_mtime >= began]
    for path in found:  # by the round that was cut off
        print(f"see {path}")
    print(f"{rounds} whole rounds, {len(found) or 'nothing'} found")
    return int(bool(found))


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))


if __name__ == "__main__":
    sys.exit(main())
