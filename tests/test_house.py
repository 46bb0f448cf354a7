"""House rules: what every file here keeps to, beyond what the linters know."""

import ast
import filecmp
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("appliance", "compiler", "runtime", "tui")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 350
# An auditor copies this file alone and runs it without Holdfast, so it cannot be cut in two.
CHECKER, CHECKER_LINES_MAX = ROOT / "appliance" / "audit" / "checker.py", 430

# Written in pieces, so that this file keeps its own rules.
UNFINISHED = re.compile("TO" + r"DO\b|FIX" + r"ME\b|X" + "XX")
REGISTRY_HOSTS = re.compile("files.python" + "hosted|py" + r"pi\.org|npm" + r"js\.(org|com)")
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(ro" + "ot|ho" + r"me/\w|Us" + r"ers/\w|op" + "t/py|t" + r"mp/\w)"
)


def tracked(*patterns: str) -> list[Path]:
    """Files that are or would be in the repository, matching git's `patterns`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def written(path: Path) -> bool:
    """True for text that a person wrote."""
    generated = path.name.endswith(("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"))
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return not generated and b"\0" not in data


SOURCES = [path for path in tracked("*.py") if written(path)]
TEXTS = [path for path in tracked(".") if written(path)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_source = pytest.mark.parametrize("path", SOURCES, ids=name)


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20


def test_only_the_four_packages_are_packages() -> None:
    """With an __init__.py in packaging/, tests/ or systemd/, imports of the suite go wrong."""
    homes = {path.relative_to(ROOT).parts[0] for path in tracked("*/__init__.py")}
    assert homes == set(PACKAGES)


@each_source
def test_a_module_opens_by_saying_what_it_is(path: Path) -> None:
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)) or not text.strip()


def test_no_room_is_named_like_a_standard_library_module() -> None:
    rooms = {path.stem for path in SOURCES if path.relative_to(ROOT).parts[0] in PACKAGES}
    assert not rooms & set(sys.stdlib_module_names)


@each_source
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= (CHECKER_LINES_MAX if path == CHECKER else FILE_LINES_MAX)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize(
    "forbidden", [UNFINISHED, REGISTRY_HOSTS, MACHINE_PATHS], ids=["unfinished", "hosts", "paths"]
)
def test_no_file_carries_what_belongs_elsewhere(forbidden: re.Pattern[str]) -> None:
    """Unfinished work, package registries' hosts, one machine's paths."""
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in TEXTS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not found


def test_the_console_command_starts_without_heavy_imports() -> None:
    """`holdfast status` should answer at once: no arrays, engines, compilers or screens."""
    heavy = ["numpy", "onnx", "onnxruntime", "openvino", "numba", "scipy", "textual"]
    code = f"import sys, tui.cli; print([name for name in {heavy} if name in sys.modules])"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == "[]"


def test_the_stubs_are_those_of_the_protocol(tmp_path: Path) -> None:
    """`make protocol` writes them."""
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs]
    names = [f"runtime/protocol/{name}.proto" for name in ("evidence", "control")]
    subprocess.run([*protoc, *names], cwd=ROOT, check=True)
    for fresh in sorted((tmp_path / "runtime/protocol").iterdir()):
        assert filecmp.cmp(fresh, ROOT / "runtime/protocol" / fresh.name, shallow=False)
