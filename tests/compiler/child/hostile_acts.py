"""Acts that do what a hostile model might make a library do. Imported by the child by this name."""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import msgspec

from appliance.errors import EngineBuild
from compiler.progress import Progress


class Said(msgspec.Struct, frozen=True):
    """What an act found."""

    words: tuple[str, ...] = ()


class Deed(msgspec.Struct, frozen=True):
    """One deed by name, with a word to it."""

    deed: str
    word: str = ""

    @classmethod
    def result(cls) -> type[Said]:
        return Said

    def perform(self, progress: Progress) -> Said:
        return Said(words=tuple(getattr(self, self.deed)(progress) or ()))

    def tell(self, progress):
        progress.stage("first", 3)
        progress.step(2)
        progress.stage("second")
        print("a library prints this")
        return (self.word, os.environ.get("SECRET", "none"), str(Path.cwd()))

    def refuse(self, progress):
        raise EngineBuild("no such operator", remedy="another model")

    def stumble(self, progress):
        print("the last words", file=sys.stderr)
        raise RuntimeError("our own mistake")

    def segfault(self, progress):
        print("about to fall", file=sys.stderr)
        ctypes.string_at(0)

    def abort(self, progress):
        os.abort()

    def killed(self, progress):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, progress):
        os._exit(3)

    def eat_memory(self, progress):
        held = []
        while True:
            held.append(bytearray(64 << 20))

    def eat_shared_memory(self, progress):
        held = []
        while True:
            held.append(mmap.mmap(-1, 8 << 30))

    def eat_memory_in_a_library(self, progress):
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr)
        os.abort()

    def sleep(self, progress):
        progress.stage("sleeping")
        Path(self.word, "asleep").write_text(str(os.getpid()))
        time.sleep(1000)

    def spin(self, progress):
        while True:
            pass

    def shout(self, progress):
        pipe = os.dup(self._pipe())
        while True:
            os.write(pipe, b"x" * (1 << 20))

    def chatter(self, progress):
        progress.stage("talking")
        while True:
            progress.step()

    def lie(self, progress):
        os.write(self._pipe(), self.word.encode() + b"\n")
        time.sleep(1000)

    @staticmethod
    def _pipe() -> int:
        """The descriptor of the pipe to the parent: the one pipe that is not a standard stream."""
        handles = [handle for handle in range(3, 100) if Path(f"/proc/self/fd/{handle}").exists()]
        return handles[0]

    def limits(self, progress):
        names = ("RLIMIT_DATA", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_FSIZE")
        return [str(resource.getrlimit(getattr(resource, name))[0]) for name in names]

    def status(self, progress):
        """Of no new privileges, the filter, capabilities."""
        wanted = ("NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapInh")
        lines = Path("/proc/self/status").read_text().splitlines()
        return [line.replace("\t", "") for line in lines if line.split(":")[0] in wanted]

    def escape(self, progress):
        """Every way out that a filter closes; says what each attempt met."""
        parent = os.getppid()
        attempts = {
            "inet": lambda: socket.socket(socket.AF_INET),
            "inet6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
            "unix": lambda: socket.socket(socket.AF_UNIX),
            "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
            "fork": os.fork,
            "program": lambda: subprocess.run(["/bin/true"], check=True),
            "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
            "signal": lambda: os.kill(parent, 0),
            "thread": _thread,
            "own signal": lambda: os.kill(os.getpid(), 0),
        }
        return [f"{name}: {_met(attempt)}" for name, attempt in attempts.items()]

    def start_a_driver(self, progress):
        """What a GPU's driver does as it starts, then what a child must not be able to do all the same."""
        listening = []
        attempts = {
            "listen": lambda: listening.append(_listen("\0cuda-uvmfd-1-2")),
            "name a thread": lambda: _thread(_name_itself),
            "shared file": lambda: os.close(os.memfd_create("driver")),
            "device": lambda: Path(self.word).write_bytes(b"order"),
            "terminal": lambda: fcntl.ioctl(
                os.open(self.word, os.O_RDWR), termios.FIONREAD, b"1234"
            ),
            "address space": lambda: mmap.mmap(-1, 1 << 40, prot=0, flags=_RESERVED),
            "connect": lambda: socket.socket(socket.AF_UNIX).connect("\0cuda-uvmfd-1-2"),
            "accept": lambda: [item.accept() for item in listening],
            "datagrams": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
            "inet": lambda: socket.socket(socket.AF_INET),
            "fork": os.fork,
            "other process": lambda: Path(f"/proc/{os.getppid()}/comm").write_text("me"),
        }
        return [f"{name}: {_met(attempt)}" for name, attempt in attempts.items()]

    def reach(self, progress):
        """The file named, then every place that should be closed or open."""
        named = Path(self.word)
        attempts = {
            "named": named.read_bytes,
            "write named": lambda: named.write_bytes(b"changed"),
            "beside": lambda: named.with_name("beside").write_bytes(b""),
            "tmp": lambda: Path("/var/tmp/left").write_bytes(b""),
            "scratch": lambda: Path(os.environ["TMPDIR"], "mine").write_bytes(b""),
            "shared": lambda: Path("/dev/shm/left").write_bytes(b""),
        }
        return [f"{name}: {_met(attempt)}" for name, attempt in attempts.items()]


# Private, nobody's, and not counted as memory: how a driver reserves addresses.
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE


def _thread(does=lambda: None):
    met = []

    def run():
        try:
            does()
        except OSError as error:
            met.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if met:
        raise met[0]


def _name_itself():
    Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/comm").write_text("cuda-EvtHandlr")


def _listen(name):
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(name)
    listening.listen(1)
    return listening


def _met(attempt) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"
