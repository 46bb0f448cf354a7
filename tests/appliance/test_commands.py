"""How commands end: what they print and their exit codes."""

import errno

import pytest

from appliance import errors
from appliance.commands import printable, reporting, run_command
from appliance.exits import EXIT_CODES, exit_code


def fail(error: BaseException):
    def command() -> int:
        raise error

    return command


def ends_with(command) -> int:
    with pytest.raises(SystemExit) as ended:
        run_command(command)
    return ended.value.code


@pytest.fixture
def terminal(monkeypatch):
    """Standard error that is a terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return lambda: monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_returns_its_exit_code(result, code):
    assert ends_with(lambda: result) == code


def test_an_operating_error_is_two_lines_and_its_code(capsys):
    error = errors.BundleSignature("it was changed", remedy="copy it again")
    assert ends_with(fail(error)) == 13
    assert capsys.readouterr().err == (
        "error [bundle.signature]: it was changed\nremedy: copy it again\n"
    )


def test_an_interrupt_ends_with_130_and_no_traceback(capsys):
    assert ends_with(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "the output: No space left on device"),
    ],
)
def test_what_the_system_refuses_is_an_operating_error(capsys, monkeypatch, error, told):
    monkeypatch.setattr("os.dup2", lambda *_: None)  # the test's own output stays
    assert ends_with(fail(error)) == 11
    assert f"error [state.unusable]: cannot use {told}\n" in capsys.readouterr().err


def test_other_trouble_with_files_is_a_mistake_of_ours():
    with pytest.raises(FileNotFoundError):
        run_command(fail(FileNotFoundError(errno.ENOENT, "No such file", "/x")))


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()))


def test_a_wrapped_command_keeps_its_signature_and_result():
    @reporting
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    assert add(1) == 3
    assert add.__wrapped__.__annotations__["a"] is int
    assert add.__doc__ == "Add."


def test_colour_is_for_terminals_that_want_it(capsys, monkeypatch, terminal):
    error = errors.ConfigError("m", remedy="r")
    terminal()
    ends_with(fail(error))
    assert "\x1b[1;31merror [config.invalid]:\x1b[0m m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    terminal()
    ends_with(fail(error))
    assert "\x1b" not in capsys.readouterr().err


def test_names_from_a_file_cannot_drive_the_terminal(capsys):
    ends_with(fail(errors.SourceFormat("node '\x1b[2J\x07é'", remedy="two\nlines")))
    told = capsys.readouterr().err
    assert r"node '\x1b[2J\x07é'" in told
    assert "two\nlines" in told
    assert printable("\r") == r"\r"


def test_every_class_of_error_has_an_exit_code():
    def branches(base):
        for error in base.__subclasses__():
            yield error
            yield from branches(error)

    ours = [
        error for error in branches(errors.ApplianceError) if error.__module__ == "appliance.errors"
    ]
    codes = {error: exit_code(error("m", remedy="r")) for error in ours}
    assert all(code in EXIT_CODES.values() for code in codes.values()), codes
    assert exit_code(ValueError()) == 1
