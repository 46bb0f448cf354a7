"""What the documents say is so: commands exist and run, tables are fresh, links lead somewhere."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import typer

from appliance.config import Config, StateConfig, load_config
from appliance.fitting import trace
from compiler import cli as compile_cli
from compiler.spec import RecipeTable
from tui import cli as operator_cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS += [ROOT / "examples" / "README.md", ROOT / "packaging" / "README.md"]
FENCE = re.compile(r"^```([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
OPERATIONS = ROOT / "docs" / "operations.md"
APPS = {"holdfast": operator_cli.app, "holdfast-compile": compile_cli.app}


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of `path` whose first line after the fence is `language`."""
    return [body for kind, body in FENCE.findall(path.read_text("utf-8")) if kind == language]


def commands(body: str) -> list[str]:
    """The commands of a console block, without their prompt."""
    return [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]


def shown() -> list[str]:
    """Every command that any document shows."""
    return sorted(
        {
            command
            for path in DOCUMENTS
            for language in ("console", "console run", "console live")
            for body in blocks(path, language)
            for command in commands(body)
        }
    )


def generator() -> ModuleType:
    """docs/generate.py, which is a script and no room of the house."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def each(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=each)
def test_links_lead_to_files_that_are_here(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text("utf-8")) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_generated_tables_are_fresh() -> None:
    """`make docs` writes them."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", shown())
def test_every_command_shown_exists(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] in targets
    elif program in APPS:
        known = typer.main.get_command(APPS[program])
        while words and (child := getattr(known, "commands", {}).get(words[0])):
            known, words = child, words[1:]
        assert not getattr(known, "commands", {}) or not words, f"{known.name} has no {words}"
        known.make_context(program, words, resilient_parsing=False)
    else:
        assert program in {"holdfast-runtime", "systemctl", "journalctl", "mkdir", "cp", "mv"}


def run(blocks_of_commands: list[str], directory: Path) -> None:
    """Run the commands of the blocks in `directory`, one after another; each must end well."""
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for command in (line for body in blocks_of_commands for line in commands(body)):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.timeout(600)  # a process for each command
def test_commands_marked_for_running_run(tmp_path: Path) -> None:
    """In a directory that looks like a checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run(blocks(OPERATIONS, "console run"), tmp_path)


@pytest.mark.timeout(600)
def test_commands_marked_live_run_beside_a_runtime(
    start_runtime: Callable[..., Any], state: Path, tmp_path: Path
) -> None:
    start_runtime(state)
    (tmp_path / "holdfast-data").symlink_to(state)
    run(blocks(OPERATIONS, "console live"), tmp_path)


def test_the_client_in_the_readme_gets_answers(
    runtime: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(ROOT / "README.md", "python")
    assert "holdfast" not in example.lower()
    monkeypatch.chdir(ROOT)
    exec(example.replace("127.0.0.1:8001", runtime.address), {})
    assert re.search(
        r"b'(zero|one|two|three|four|five|six|seven|eight|nine)'", capsys.readouterr().out
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=each)
def test_settings_shown_are_settings(path: Path, tmp_path: Path) -> None:
    for number, body in enumerate(blocks(path, "toml")):
        file = tmp_path / f"{number}.toml"
        file.write_text(body)
        load_config(file)


def test_recipes_shown_are_recipes() -> None:
    for shown in blocks(ROOT / "docs" / "recipes.md", "toml recipe"):
        recipe = msgspec.convert(tomllib.loads(shown)["recipe"], RecipeTable)
        for item in recipe.inputs:
            assert trace(item)[-1].spec.datatype == "FP32"


def test_the_shipped_settings_are_the_defaults() -> None:
    """Only the state directory differs: an installed box keeps it where systemd does."""
    shipped = load_config(ROOT / "packaging" / "holdfast.toml")
    assert shipped.state == StateConfig(directory="/var/lib/holdfast")
    assert msgspec.structs.replace(shipped, state=StateConfig()) == Config()


def test_the_shipped_settings_name_every_setting() -> None:
    """docs/generate.py takes the descriptions from them."""
    described = generator().descriptions((ROOT / "packaging" / "holdfast.toml").read_text())
    assert described.keys() == dict(generator().each_setting(Config)).keys()
    assert all(described.values())


def test_decisions_are_listed() -> None:
    listed = LINK.findall((ROOT / "docs" / "decisions" / "README.md").read_text())
    records = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    assert listed == records
    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]
