"""The command as a whole: help, mistakes, colours, what is imported, completion."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from cli_kit import COMMAND, ROOT, Terminal, environment, mistake, ratite

from ratite.clients.cli import kit, main

# Verb and words with which it must fail as a mistake, and how.
MISTAKES = (
    (("doctr",), "there is no verb 'doctr'; did you mean doctor?"),
    (("doctor", "--jsno"), "No such option '--jsno'. Did you mean '--json'?"),
    (("qmp",), "no machine runs"),
    (("qmp", "nothing"), "there is no machine 'nothing'"),
    (("qmp", "--qmp", "/nowhere/at/all", "query-status"), "nobody listens at unix:/nowhere/at/all: No such file or directory"),
    (("qmp", "--qmp", "tcp:localhost:http", "query-status"), "cannot connect to tcp:localhost:http"),
    (("qmp", "--qmp", "serial:0", "query-status"), "nobody listens"),
    (("top", "--interval", "x"), "'x' is not a valid number of seconds"),
    (("top", "--interval", "nan"), "'nan' is no time"),
    (("top", "--interval", "inf"), "inf is not in the range"),
    (("stop", "--timeout", "nan"), "'nan' is no time"),
    (("qmp", "--timeout", "-1", "x"), "-1.0 is not in the range"),
    (("run", "riscv-virt/minimal", "--expect-text", ""), "need a text"),
    (("top", "nothing"), "there is no machine 'nothing'"),
    (("completion", "tcsh"), "'tcsh' is not one of"),
    (("cache", "grow"), "No such command 'grow'"),
    (("cache", "trim"), "Missing argument 'MIB'"),
)  # fmt: skip


@pytest.mark.parametrize(("words", "why"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_a_mistake_is_one_line(words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main.main(words)
    mistake(subprocess.CompletedProcess(words, status, *capsys.readouterr()), why)


def test_a_mistake_of_a_process() -> None:
    mistake(ratite("qmp", "--qmp", "unix:/nowhere/at/all"), "nobody listens at unix:/nowhere/at/all")


def test_no_words_are_help_and_a_mistake() -> None:
    done = ratite()
    assert done.returncode == 2 and all(verb in done.stderr for verb in main.VERBS)


@pytest.mark.parametrize("verb", sorted(main.VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    if verb == "bench":  # argparse's
        with pytest.raises(SystemExit) as ended:
            main.main([verb, "--help"])
        assert not ended.value.code
    else:
        assert main.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.lower().startswith(f"usage: ratite {verb}")


def test_every_verb_that_prints_prints_json() -> None:
    import click

    for verb in set(main.VERBS) - {"bench", "serve"}:
        command = main.command.get_command(click.Context(main.command), verb)
        assert command is not None
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            assert any("--json" in parameter.opts for parameter in leaf.params), leaf.name


def test_version() -> None:
    from ratite import __version__

    done = ratite("--version")
    assert (done.returncode, done.stdout) == (0, f"ratite {__version__}\n")


@pytest.mark.parametrize("words", [["--version"], ["qmp", "nothing"], ["cache", "--help"], ["--help"]])
def test_what_needs_no_rich_imports_none(words: list[str]) -> None:
    heavy = ("rich", "prompt_toolkit", "asyncio", "yaml", "aiohttp", "llvmlite", "ratite.daemon", "ratite.core")
    found = f"[name for name in {heavy!r} if name in sys.modules]"
    code = f"import sys; from ratite.clients.cli.main import main; main({words!r}); print({found})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(("line", "status", "why"), [
    ("schema >&-", 0, ""),
    ("schema | head -n 1; exit ${PIPESTATUS[1]}", 0, ""),
    ("schema > /dev/full", 1, "ratite: No space left on device\n"),
    ("profiles 2>&-", 0, ""),
    ("console nothing <&- >&-", 2, "ratite: there is no machine 'nothing'"),
    ("qmp --qmp /nowhere - <&-", 2, "ratite: nobody listens"),
])  # fmt: skip
def test_streams_that_are_closed_or_full(line: str, status: int, why: str) -> None:
    command = " ".join([*COMMAND, line])
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment())
    assert (done.returncode, done.stderr[: len(why)]) == (status, why), done.stderr
    assert len(done.stderr.splitlines()) == bool(why)


def test_letters_that_the_terminal_has_not() -> None:
    """JSON stays JSON, and other text is readable."""
    env = {**environment(), "PYTHONIOENCODING": "latin-1"}
    code = "from ratite.clients.cli import kit; kit.whole_streams(); kit.show_json(chr(0x2026)); kit.click.echo(chr(0x2026))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout == '"\\u2026"\n\\u2026\n', done.stderr


def test_who_ignores_hangups_goes_on_ignoring_them() -> None:
    """As nohup has it."""
    code = (
        "import signal; from ratite.clients.cli import kit; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "kit.end_in_good_order(); print(signal.getsignal(signal.SIGHUP).name, callable(signal.getsignal(signal.SIGTERM)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert done.stdout == "SIG_IGN True\n"


@pytest.mark.parametrize(("extra", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_only_on_a_terminal(extra: Mapping[str, str], colours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for name, value in extra.items():
        monkeypatch.setenv(name, value)
    assert kit.coloured(Screen()) is colours
    assert kit.coloured(sys.__stdin__) in (False, colours)
    assert "\x1b" not in ratite("nothing").stderr


def test_a_bug_of_ours_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ratite.clients.cli import doctor

    def broken() -> list[doctor.Check]:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(doctor, "checks", broken)
    monkeypatch.delenv("RATITE_TRACEBACK", raising=False)
    assert main.main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("ratite: a bug of ratite's, please report it: ZeroDivisionError: oops")
    monkeypatch.setenv("RATITE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main.main(["doctor"])


# -- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = ratite("completion", shell)
    assert done.returncode == 0 and f"_RATITE_COMPLETE={shell}_complete" in done.stdout
    assert json.loads(ratite("completion", shell, "--json").stdout) == {"shell": shell, "script": done.stdout[:-1]}


@pytest.mark.parametrize(("words", "wanted"), [
    (["ratite", "do"], "doctor"), (["ratite", "top", "--i"], "--interval"), (["ratite", "cache", "w"], "warm"),
    (["ratite", "completion", "z"], "zsh"),
])  # fmt: skip
def test_completion_completes(words: list[str], wanted: str) -> None:
    extra = {"_RATITE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "from ratite.clients.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**environment(), **extra})
    assert wanted in [line.rpartition(",")[2] for line in done.stdout.splitlines()], done.stdout + done.stderr


def test_bash_takes_the_script() -> None:
    script = ratite("completion", "bash").stdout
    code = f"{script}\ncomplete -p ratite"
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "_ratite_completion" in done.stdout, done.stderr


# -- doctor, cache, bench


def test_doctor_tells_what_is_usable() -> None:
    done = ratite("doctor", "--json")
    rows = {(row["group"], row["name"]): row for row in json.loads(done.stdout)}
    assert rows["ratite", "daemon"]["state"] == "ok"
    assert rows["ratite", "accelerator interp"]["state"] == "ok"
    assert {name for group, name in rows if group == "tools"} >= {"passt", "gdb-multiarch"}
    assert done.returncode == (1 if any(row["state"] == "fail" for row in rows.values()) else 0)
    assert all(row["fix"] for row in rows.values() if row["state"] == "warn" and row["group"] == "tools")


def test_doctor_names_a_fix(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ratite.clients.cli import doctor

    missing = list(doctor.tool_checks(lambda name: None))
    assert all(check.state == doctor.WARN and check.fix.startswith("sudo apt-get install ") for check in missing)
    monkeypatch.setattr(doctor, "checks", lambda: [doctor.Check("x", "it", doctor.FAIL, "is broken", "mend it")])
    assert main.main(["doctor"]) == 1
    assert "fail  it  is broken" in capsys.readouterr().out


def test_doctor_sees_a_runtime_folder_that_others_write(
    runtime: Path,
) -> None:
    from ratite.clients.cli import doctor

    (runtime / "ratite").mkdir()
    (runtime / "ratite").chmod(0o777)
    (check,) = [check for check in doctor.place_checks() if check.name == "runtime"]
    assert check.state == doctor.FAIL and "only you can write" in check.text


def test_cache_shows_and_clears(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert json.loads(ratite("cache", "stat", "--json").stdout)["files"] == 0
    assert ratite("cache", "warm", "no-such-cpu").returncode == 1
    assert ratite("cache", "clear").stdout == "0 files removed\n"
    assert json.loads(ratite("cache", "list", "--json").stdout) == []
    assert json.loads(ratite("cache", "trim", "0", "--json").stdout) == {"removed": 0}


def test_cache_warm_shows_its_progress() -> None:
    with Terminal("cache", "warm", "rv32i-riscv-cpu") as terminal:
        terminal.expect("compiling rv32i-riscv-cpu for riscv32")
        terminal.expect("rv32i-riscv-cpu for riscv32: ready after")
        assert terminal.ended() == 0
    done = ratite("cache", "warm", "rv32i-riscv-cpu", "--json")
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["started", "ready"]


def test_bench_is_the_bench() -> None:
    done = ratite("bench", "nothing")
    assert done.returncode == 2 and "usage: ratite bench" in done.stderr and "Traceback" not in done.stderr
    done = ratite("bench", "--json", "monitor", "--starts", "1", "--no-peer")
    assert len(json.loads(done.stdout)["rows"]) == 5 and "exec to first reply" in done.stderr


def test_it_is_the_console_script() -> None:
    assert 'ratite = "ratite.clients.cli.main:main"' in (ROOT / "pyproject.toml").read_text()
