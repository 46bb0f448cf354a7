"""What runs a stranger's model: it ends within its bounds, reaches nothing, and its death is told."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from appliance.config import BuildConfig
from appliance.errors import BuildCrashed, BuildLimit, EngineBuild
from compiler.child import Confined, Here, Places
from compiler.child.devices import gpu_devices
from compiler.progress import Silent

BOUNDS = BuildConfig(memory_bytes_max=1 << 30, seconds_max=60.0)


class Heard:
    """A progress that remembers."""

    def __init__(self):
        self.said = []

    def stage(self, name, steps=1):
        self.said.append((name, steps))

    def step(self, steps=1):
        self.said.append(steps)


@pytest.fixture
def places(tmp_path) -> Places:
    """A scratch directory."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Places(scratch=scratch)


@pytest.fixture
def deed(monkeypatch):
    """The hostile act, in a module that both sides import."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here)
    from hostile_acts import Deed

    return Deed


def do(act, places, progress=None, bounds=BOUNDS):
    return Confined(bounds=bounds).do(act, places, progress or Silent())


def test_an_act_tells_its_progress_and_its_result(deed, places, monkeypatch):
    monkeypatch.setenv("SECRET", "a key")
    heard = Heard()
    ended = do(deed(deed="tell", word="hello"), places, heard)
    assert heard.said == [("first", 3), 2, ("second", 1)]
    assert ended.result.words == ("hello", "none", str(Path.cwd()))
    assert ended.missing == ()


def test_an_act_here_is_the_same_act(deed, places):
    with pytest.raises(EngineBuild):
        Here().do(deed(deed="refuse"), places, Silent())


def test_its_error_keeps_class_message_and_remedy(deed, places):
    with pytest.raises(EngineBuild, match=r"^no such operator$") as caught:
        do(deed(deed="refuse"), places)
    assert caught.value.remedy == "another model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("stumble", "RuntimeError: our own mistake"),
        ("segfault", "died of SIGSEGV; its last words: about to fall"),
        ("abort", "died of SIGABRT"),
        ("leave", "ended with 3"),
    ],
)
def test_its_death_is_told_with_its_last_words(deed, places, name, told):
    with pytest.raises(BuildCrashed) as caught:
        do(deed(deed=name), places)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "name", ["eat_memory", "eat_shared_memory", "eat_memory_in_a_library", "killed"]
)
def test_memory_that_ran_out_is_a_limit(deed, places, name):
    with pytest.raises(BuildLimit, match="memory"):
        do(deed(deed=name), places)


def test_its_time_is_limited(deed, places):
    bounds = msgspec.structs.replace(BOUNDS, seconds_max=1.5)
    with pytest.raises(BuildLimit, match=r"longer than 1\.5 seconds"):
        do(deed(deed="sleep", word=str(places.scratch)), places, bounds=bounds)
    # On a busy machine its time may be over before it fell asleep and said who it is.
    assert workers() == []


def test_one_that_never_stops_talking_is_ended_too(deed, places):
    bounds = msgspec.structs.replace(BOUNDS, seconds_max=1.0)
    with pytest.raises(BuildLimit, match="longer than 1 seconds"):
        do(deed(deed="chatter"), places, bounds=bounds)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ('{"type":"step","steps":1}', "a step before the first stage"),
        ('{"type":"stage","name":"s","steps":-1}', "cannot be read"),
        ('{"type":"stage","name":"s","steps":1e99}', "cannot be read"),
        ("{}", "cannot be read"),
        ("no json", "cannot be read"),
        ('{"x":' + "[" * 5000, "cannot be read"),
        ('{"type":"failed","code":"no.such","message":"m","remedy":"r"}', "unknown error"),
        ('{"type":"done","result":{"words":7}}', "result that cannot be read"),
    ],
)
def test_what_it_says_is_not_believed(deed, places, word, told):
    with pytest.raises(BuildCrashed, match=told):
        do(deed(deed="lie", word=word), places)


def test_a_line_without_an_end_is_cut_off(deed, places, monkeypatch):
    monkeypatch.setattr("compiler.child.parent.LINE_BYTES_MAX", 10 << 20)
    with pytest.raises(BuildCrashed, match="without an end"):
        do(deed(deed="shout"), places)


def test_the_ways_out_are_closed(deed, places):
    met = dict(word.split(": ") for word in do(deed(deed="escape"), places).result.words)
    assert met.pop("thread") == met.pop("own signal") == "open"
    assert set(met.values()) == {"EPERM"}


def test_it_reaches_only_its_places(deed, places, tmp_path):
    named = tmp_path / "model.onnx"
    named.write_bytes(b"model")
    given = Places(scratch=places.scratch, readable=(named,))
    met = dict(w.split(": ") for w in do(deed(deed="reach", word=str(named)), given).result.words)
    assert met.pop("named") == met.pop("scratch") == "open"
    assert set(met.values()) == {"EACCES"}
    assert named.read_bytes() == b"model"
    hidden = do(deed(deed="reach", word=str(named)), places).result.words
    assert "named: EACCES" in hidden


def test_a_gpus_driver_can_start_and_the_ways_out_stay_closed(deed, places):
    """A terminal stands for a device of a GPU: both are opened for writing and asked by ioctl."""
    theirs, ours = pty.openpty()
    try:
        device = Path(os.ttyname(ours))
        act = deed(deed="start_a_driver", word=str(device))
        given = replace(places, devices=(device,))
        met = dict(word.split(": ") for word in do(act, given).result.words)
        without = dict(word.split(": ") for word in do(act, places).result.words)
    finally:
        os.close(theirs)
        os.close(ours)
    opened = {"listen", "name a thread", "shared file", "device", "terminal", "address space"}
    assert {name for name, word in met.items() if word == "open"} == opened
    assert met["connect"] == met["accept"] == met["datagrams"] == met["inet"] == "EPERM"
    # Nothing listens there, so nothing is accepted either.
    assert {name for name, word in without.items() if word == "open"} == {"shared file", "accept"}


def test_the_devices_of_a_machine_are_found_by_name(tmp_path):
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null", "nvme0", "sda"):
        (tmp_path / name).touch()
    found = [path.name for path in gpu_devices(tmp_path)]
    assert found == ["nvidia-caps", "nvidia-uvm", "nvidia0", "nvidiactl"]


def test_its_limits_and_privileges_are_low(deed, places):
    data, core, cpu, size = map(int, do(deed(deed="limits"), places).result.words)
    assert (data, core, size) == (1 << 30, 0, 1 << 30)
    assert cpu == 60 * len(os.sched_getaffinity(0)) + 1
    status = dict(word.split(":") for word in do(deed(deed="status"), places).result.words)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapEff"], 16) & ~0b110 == int(status["CapPrm"], 16) & ~0b110 == 0


def test_an_interrupt_ends_it(deed, places):
    """Ctrl-C in the parent, while the child is at work."""

    def interrupt():
        wait_for(places.scratch / "asleep")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        do(deed(deed="sleep", word=str(places.scratch)), places)
    thread.join()
    assert gone(places.scratch)


def test_it_does_not_outlive_its_parent(deed, places):
    code = (
        "import sys; from pathlib import Path; from hostile_acts import Deed\n"
        "from compiler.child import Confined, Places\n"
        "from compiler.progress import Silent\nfrom appliance.config import BuildConfig\n"
        "scratch = Path(sys.argv[1])\n"
        "act = Deed(deed='sleep', word=str(scratch))\n"
        "Confined(bounds=BuildConfig()).do(act, Places(scratch=scratch), Silent())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(places.scratch)])
    try:
        wait_for(places.scratch / "asleep")
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: gone(places.scratch))


def test_processor_time_is_limited(deed, places):
    """The bound is per core; a worker is started by hand to have one second."""
    from compiler.child.messages import Order

    reading, writing = os.pipe()
    order = Order(
        module="hostile_acts",
        name="Deed",
        act=msgspec.Raw(json.dumps({"deed": "spin"}).encode()),
        parent=os.getpid(),
        descriptor=writing,
        memory_bytes=1 << 30,
        cpu_seconds=1,
        readable=(),
        listable=(),
        writable=(str(places.scratch),),
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "compiler.child.worker"],
        input=msgspec.json.encode(order),
        pass_fds=(writing,),
        check=False,
    )
    os.close(writing)
    os.close(reading)
    assert -done.returncode == signal.SIGXCPU


def test_a_machine_without_a_known_filter_is_told(monkeypatch):
    from compiler.child.syscalls import forbid_calls

    told = forbid_calls("riscv64")
    assert told is not None
    assert "riscv64" in told
    assert "not closed off" in told


def gone(scratch: Path) -> bool:
    """Whether the process that fell asleep there is no more."""
    return state_and_parent((scratch / "asleep").read_text())[0] == "Z"


def workers() -> list[str]:
    """The child processes of this one that do an act."""
    children = [
        path.name
        for path in Path("/proc").glob("[0-9]*")
        if state_and_parent(path.name)[1] == str(os.getpid())
    ]
    commands = {name: read_of(name, "cmdline") for name in children}
    return [name for name, command in commands.items() if "compiler.child.worker" in command]


def state_and_parent(process: str) -> list[str]:
    """As proc(5) tells; a process that is no more counts as a zombie of nobody."""
    return read_of(process, "stat").rpartition(")")[2].split()[:2] or ["Z", ""]


def read_of(process: str, name: str) -> str:
    try:
        return Path("/proc", process, name).read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def wait_for(path: Path) -> None:
    wait_until(lambda: path.exists() and path.read_text() != "")


def wait_until(true) -> None:
    until = time.monotonic() + 150
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)
