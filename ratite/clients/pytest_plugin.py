"""The pytest plugin: `pytest --ratite` gives tests machines that run.

    @pytest.mark.ratite("riscv-virt/minimal", image=ELF)
    def test_echo(ratite):
        ratite.console.expect("echo")

Fixtures: `ratite` is the machine (`ratite.clients.script.Machine`) that the marker or an indirect parameter names;
`ratite_start` starts any number. All are ended behind the test; when it fails their consoles and logs are in its report.
Without --ratite such tests are skipped, and nothing of ratite is imported but this file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ratite.clients.script import Machine

    Start = Callable[..., Machine]

MARKER = "ratite(source, **parameters): which machine file or profile the fixture `ratite` runs, and its parameters"
LOG_TAIL = 16 << 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """--ratite."""
    parser.getgroup("ratite").addoption("--ratite", action="store_true", help="run the tests that need machines of ratite's")


def pytest_configure(config: pytest.Config) -> None:
    """The marker; the reports, where they are wanted."""
    config.addinivalue_line("markers", MARKER)
    if config.getoption("ratite"):
        config.pluginmanager.register(Reports(), "ratite-reports")


class Reports:
    """Puts consoles and logs of a test's machines into its report when it fails."""

    KEY = pytest.StashKey[list[Any]]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Also when the fixture's end is what fails."""
        report = yield
        if report.failed:
            for machine in item.stash.get(self.KEY, []):
                report.sections.append((f"ratite: console of {machine.name}", machine.printed or "(nothing)"))
                report.sections.append((f"ratite: log of {machine.name}", machine.log()[-LOG_TAIL:] or "(empty)"))
        return report


@pytest.fixture
def ratite_start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start a machine: `ratite_start(source, settings, paused=True, …)`, with the arguments of `Machine`. A machine file is
    looked for beside the test's own file first."""
    if not request.config.getoption("ratite"):
        pytest.skip("it needs a machine of ratite's: give --ratite")
    from ratite.clients.script import Machine

    machines: list[Machine] = []
    request.node.stash[Reports.KEY] = machines

    def start(source: str | Path, settings: Mapping[str, Any] | None = None, **more: Any) -> Machine:
        beside = request.path.parent / source
        machine = Machine(beside if beside.is_file() else source, settings, **more)
        machines.append(machine)
        return machine

    yield start
    for machine in reversed(machines):
        machine.close()
    died = [machine.name for machine in machines if machine.died]
    if died:
        pytest.fail(f"the daemon of {', '.join(died)} died", pytrace=False)


@pytest.fixture
def ratite(request: pytest.FixtureRequest, ratite_start: Start) -> Machine:
    """The machine of the test's marker `ratite`, or of an indirect parameter: a source, settings, or (source, settings); those
    settings are added to the marker's."""
    marker = request.node.get_closest_marker("ratite")
    source, settings = (marker.args[0] if marker and marker.args else None), dict(marker.kwargs if marker else {})
    given = getattr(request, "param", None)
    if isinstance(given, Mapping):
        settings.update(given)
    elif isinstance(given, (str, Path)):
        source = given
    elif given is not None:
        source, more = given
        settings.update(more)
    if source is None:
        pytest.fail('a test must name its machine: @pytest.mark.ratite("riscv-virt/minimal")', pytrace=False)
    return ratite_start(source, settings)
