"""`pytest --ratite`, in a pytest of its own."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]
MODULE = "ratite.clients.pytest_plugin"
# Where ratite is installed pytest finds the plugin itself.
INSTALLED = any(point.value == MODULE for point in entry_points(group="pytest11"))


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Pytest as a process, without what this one was told."""
    words = ["-p", "no:cacheprovider", "-p", "no:asyncio", *([] if INSTALLED else ["-p", MODULE]), *options]
    return pytester.runpytest_subprocess(*words, timeout=300)


GOOD = """
    import pytest

    ELF = {elf!r}

    @pytest.mark.ratite("riscv-virt/minimal", image=ELF + "/echo.rv64.elf", ram="1M")
    def test_marked(ratite):
        ratite.console.expect("echo\\n", timeout=60)
        ratite.console.send("q\\n")
        assert ratite.wait(timeout=60) == ("shutdown", 0)
        ratite.write(0x80000100, b"some")
        assert ratite.read(0x80000102, 2) == b"me"
        assert ratite.qmp.execute("query-memory-size-summary")["base-memory"] == 1 << 20

    PAIR = "riscv-virt/minimal", {{"image": ELF + "/hello.rv64.elf"}}

    @pytest.mark.parametrize("ratite", ["board.yaml", PAIR], indirect=True)
    def test_given(ratite):
        ratite.console.expect("hello from rv64", timeout=60)

    def test_two(ratite_start):
        for name in "rv64", "rv32":
            more = {{"target": "riscv32", "cpu": "rv32-riscv-cpu"}} if name == "rv32" else {{}}
            machine = ratite_start("riscv-virt/minimal", {{"image": f"{{ELF}}/hello.{{name}}.elf", **more}})
            machine.console.expect(f"hello from {{name}}", timeout=60)
"""

BOARD = """
    ratite: 1
    include:
      - profile: riscv-virt/minimal@1
        with: {{image: {elf}/hello.rv64.elf}}
"""


def test_machines_and_workers(pytester: pytest.Pytester, elf: Path) -> None:
    pytester.makepyfile(GOOD.format(elf=str(elf)))
    pytester.makefile(".yaml", board=BOARD.format(elf=elf))
    pytester.makeini("[pytest]\nfilterwarnings = error")
    run(pytester, "--ratite", "--strict-markers", "-n2").assert_outcomes(passed=4)


def test_without_the_option_nothing_runs_and_nothing_is_imported(pytester: pytest.Pytester, elf: Path) -> None:
    pytester.makepyfile(GOOD.format(elf=str(elf)))
    pytester.makeconftest(
        "import sys\n"
        "def pytest_unconfigure(config):\n"
        "    print('imported:', sorted(name for name in sys.modules if name.split('.')[0] in ('ratite', 'click', 'yaml')))\n"
    )
    result = run(pytester, "--strict-markers", "-rs", "-s")
    result.assert_outcomes(skipped=4)
    result.stdout.fnmatch_lines(["*give --ratite*", f"imported: ['ratite', 'ratite.clients', '{MODULE}']"])


def test_reports_of_what_fails(pytester: pytest.Pytester, elf: Path) -> None:
    pytester.makepyfile(f"""
        import os, signal
        import pytest
        from pathlib import Path

        pytestmark = pytest.mark.ratite("riscv-virt/minimal", image={str(elf / "echo.rv64.elf")!r})

        def test_expects_too_much(ratite):
            ratite.console.expect("never", timeout=0.5, failing=["echo"])

        def test_kills_it(ratite):
            ratite.qmp.send({{"execute": "quit"}})
            assert ratite.wait(timeout=60) == ("gone", None)

        def test_the_daemon_dies(ratite):
            from ratite.clients.cli import places
            os.kill(places.find(ratite.name).record["pid"], signal.SIGSEGV)
            assert ratite.wait(timeout=60).status == "gone"

        @pytest.mark.ratite("riscv-virt/minimal", image="/nowhere.elf")
        def test_cant_start(ratite):
            raise AssertionError("it isn't called")

        @pytest.mark.ratite()
        def test_names_none(ratite):
            raise AssertionError("it isn't called")
    """)
    result = run(pytester, "--ratite")
    result.assert_outcomes(passed=2, failed=1, errors=3)
    result.stdout.fnmatch_lines_random([
        "*ratite: console of minimal-*",
        "*ratite: log of minimal-*",
        "*the console printed 'echo' before 'never'*",
        "*the daemon of minimal-* died*",
        "*Could not open '/nowhere.elf'*",
        "*a test must name its machine*",
    ])


def test_the_entry_point_is_this_module() -> None:
    made = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert made["entry-points"]["pytest11"] == {"ratite": MODULE}
