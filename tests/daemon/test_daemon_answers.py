"""Every row of wire_cases: in the QEMU personality ratite's answers are QEMU 10.0's, of a machine with nothing on it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import Raw
from wire_cases import ask, ask_peer, load, named, peer, rows, run, version

from ratite.clients.cli.main import main

KEPT = load()
ROWS = list(rows())
DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"

NO_NULL = ["Parameter 'driver' does not accept value 'null-co'"]

# Where ours are others, and the words of docs/differences.md that say so.
OURS: dict[bytes, tuple[list[Any], str]] = {
    named("1e400"): (["JSON parse error, number 1e400 is out of range"], "a number no double can hold"),
    named("0e1"): ([{"return": {}, "id": 0}], "an exponent after a bare `0`"),
    run("memsave", val=-1, size=1, filename="/nonexistent/x"): (
        ["Parameter 'val' expects uint64"],
        "a negative number for an unsigned",
    ),
    run("device_add", driver=1): (
        ["Invalid parameter type for 'driver', expected: string"],
        "`device_add` with a `driver` that is no string",
    ),
    run("qom-set", path="/machine", property="graphics", value="abc"): (
        ["Property 'none-machine.graphics' not found"],
        "properties of `/machine`",
    ),
    **{run(name): ([{"return": []}], "there is no TPM") for name in ("query-tpm-models", "query-tpm-types")},
    run("blockdev-add", driver="null-co", node_name="n", zzz=1): (NO_NULL, "`blockdev-add`"),
    run("blockdev-add", driver="null-co"): (NO_NULL, "`blockdev-add`"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The monitor of a program in QEMU's place, with a machine that has nothing on it."""
    folder = tmp_path_factory.mktemp("shims")
    assert main(["install-shims", str(folder)]) == 0
    with peer(str(folder / "qemu-system-riscv64")) as monitor:
        yield monitor


@pytest.fixture(scope="module")
def commands(place: str) -> set[str]:
    """What the personality has."""
    with Raw(place) as raw:
        return {command["name"] for command in raw.ask(run("query-commands"))["return"]}


def test_the_rows_that_are_kept_are_the_rows() -> None:
    assert list(KEPT) == ROWS
    assert all("10.0" in answers for answers in KEPT.values())


@pytest.mark.parametrize(("group", "sent"), ROWS, ids=lambda value: ascii(value)[:70])
def test_answers(place: str, commands: set[str], group: str, sent: bytes) -> None:
    found = ask(place, group, sent)
    if sent in OURS:
        expected, words = OURS[sent]
        assert [message.get("error", {}).get("desc", message) for message in found] == expected
        assert words in DIFFERENCES.read_text()
        return
    absent = None if group == "new" else _command(sent)
    if absent is not None and absent not in commands and absent in _known():
        assert found[0]["error"] == {"class": "CommandNotFound", "desc": f"The command {absent} has not been found"}
        return
    assert found == KEPT[group, sent]["10.0"]


def _command(sent: bytes) -> str | None:
    try:
        message = json.loads(sent.split(b"\n")[0])
        name = message.get("execute", message.get("exec-oob"))
    except (ValueError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _known() -> set[str]:
    """Commands that QEMU has: absences are the business of the comparison of schemas."""
    asked = {_command(sent): str(answers["10.0"]) for (_, sent), answers in KEPT.items()}
    return {name for name, answer in asked.items() if name is not None and "has not been found" not in answer}


@pytest.mark.peer
def test_the_answers_that_are_kept_are_a_real_ones() -> None:
    """Whichever QEMU is installed, of the versions whose answers are kept, must still say so."""
    programs = [os.environ.get("RATITE_RECENT_QEMU"), shutil.which("qemu-system-riscv64")]
    asked = 0
    for program in filter(None, programs):
        which = version(program)
        if which not in ("7.2", "10.0"):
            continue
        with peer(program) as monitor:
            for (group, sent), answers in KEPT.items():
                assert ask_peer(monitor, group, sent) == answers.get(which, answers["10.0"]), (which, sent)
        asked += 1
    if not asked:
        pytest.skip("no QEMU 7.2 or 10.0 is installed")
