"""A box that systemd really runs: started as process 1 of its own namespaces, over an overlay of this machine.

Nothing outside is touched: files are seen through an overlay in memory, processes, mounts, groups of processes and the
network are its own, and all of it ends with the process that began it. What such a box lacks: limits of memory and tasks (this
machine's own manager has the controllers), a TPM, and a network beyond loopback.
"""

import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOOT = Path(__file__).with_name("boot.sh")
SOURCE = Path(__file__).resolve().parents[2]
HOME = "/usr/lib/holdfast"
NAMESPACES = ("--pid", "--mount", "--cgroup", "--uts", "--ipc", "--net")
INSIDE = ("--all", "--root", "--wd")
NEEDED = ("unshare", "nsenter", "systemctl", "systemd-sysusers", "ip", "pivot_root")
SECONDS_MAX = 120.0
ENVIRONMENT = {
    "PATH": f"{HOME}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LD_LIBRARY_PATH": f"{HOME}/python/lib",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOLDFAST_CONFIG": "/etc/holdfast/holdfast.toml",
    "ORT_DISABLE_TELEMETRY": "1",
    "COLUMNS": "200",
}


class NotHere(Exception):
    """Why this machine cannot run such a box."""


class Box:
    """A booted box; Holdfast's files are where the units expect them, its users and directories are made."""

    def __init__(self, log: Path) -> None:
        """Boot; what the manager prints goes to `log`. Raises NotHere."""
        _check_machine()
        memory = log.parent / "memory"
        memory.mkdir()
        self._group = Path(tempfile.mkdtemp(prefix="holdfast-test-", dir=_own_group()))
        programs, packages = Path(sys.executable).parent, site.getsitepackages()[0]
        with log.open("wb") as out:
            self._began = subprocess.Popen(
                [
                    *("sh", "-c", 'echo $$ > "$1" && shift && exec "$@"', "sh"),
                    *(self._group / "cgroup.procs", "unshare", "--fork", "--kill-child"),
                    *(*NAMESPACES, "sh", BOOT, memory, SOURCE, sys.base_prefix, programs, packages),
                ],
                stdout=out,
                stderr=out,
            )
        try:
            self._manager = self._booted(log)
            self.run("systemd-sysusers")
            self.run("systemd-tmpfiles --create /usr/lib/tmpfiles.d/holdfast.conf")
        except BaseException:
            self.close()
            raise

    def run(self, command: str, *, fails: bool = False) -> str:
        """What a shell command prints, run in the box as root; whether it `fails` is checked."""
        done = self._entered(command)
        if (done.returncode != 0) != fails:
            journal = self._entered("journalctl --output=cat --lines=12").stdout
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{journal}")
        return done.stdout

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def until(self, condition: str) -> None:
        """Wait until a shell command succeeds."""
        until = time.monotonic() + SECONDS_MAX
        while (done := self._entered(condition)).returncode:
            assert time.monotonic() < until, f"not in time: {condition}\n{done.stdout}"
            time.sleep(0.1)

    def close(self) -> None:
        """End everything."""
        self._began.kill()
        self._began.wait()
        groups = [self._group, *(path for path in self._group.rglob("*") if path.is_dir())]
        for group in sorted(groups, reverse=True):
            while _populated(group):
                time.sleep(0.01)  # the kernel is still ending the processes
            group.rmdir()

    def _entered(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--target={self._manager}", *INSIDE, "sh", "-c", command],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _booted(self, log: Path) -> int:
        """The process that is the box's first, once it is up. Raises NotHere."""
        children = Path(f"/proc/{self._began.pid}/task/{self._began.pid}/children")
        until = time.monotonic() + SECONDS_MAX
        while time.monotonic() < until:
            if self._began.poll() is not None:
                raise NotHere(
                    f"systemd does not start in namespaces here: {log.read_text()[-2000:]}"
                )
            for self._manager in map(int, children.read_text().split()):
                state = self._entered("systemctl is-active basic.target").stdout.strip()
                if state == "active":
                    return self._manager
            time.sleep(0.1)
        raise NotHere(f"systemd has not come up: {log.read_text()[-2000:]}")


def _own_group() -> Path:
    """The control group of this process (cgroups(7)). Raises NotHere where the kernel's second kind is not mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [fields[1] for fields in mounts if fields[2] == "cgroup2"]
    own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    if not roots or not os.access(Path(roots[0]) / own, os.W_OK):
        raise NotHere("no cgroup v2 that could be written to")
    return Path(roots[0]) / own


def _populated(group: Path) -> bool:
    return "populated 1" in (group / "cgroup.events").read_text()


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise NotHere("only root may make such namespaces")
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or not Path("/lib/systemd/systemd").exists():
        raise NotHere(f"not installed here: {', '.join(missing) or 'systemd'}")
