"""-preconfig: which commands serve before the machine is made, as in QEMU 10.0, and that a wrong machine is an answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from personality_kit import Shims

from ratite.clients.qmp import Client, CommandError

# What QEMU 10.0 (riscv64) served there, of the commands that ratite has or may come to have.
_SERVES = """
    block-commit block-dirty-bitmap-add block-dirty-bitmap-clear block-dirty-bitmap-disable block-dirty-bitmap-enable
    block-dirty-bitmap-merge block-dirty-bitmap-remove block-export-add block-export-del block-job-cancel block-job-complete
    block-job-dismiss block-job-finalize block-job-pause block-job-resume block-job-set-speed block-latency-histogram-set
    block-set-write-threshold block-stream block_resize block_set_io_throttle blockdev-add blockdev-backup blockdev-create
    blockdev-del blockdev-mirror blockdev-reopen blockdev-set-active blockdev-snapshot blockdev-snapshot-delete-internal-sync
    blockdev-snapshot-internal-sync blockdev-snapshot-sync change-backing-file drive-backup drive-mirror nbd-server-add
    nbd-server-remove nbd-server-start nbd-server-stop netdev_add netdev_del object-add object-del qom-get qom-list
    qom-list-properties qom-list-types qom-set query-block query-block-exports query-block-jobs query-blockstats query-chardev
    query-command-line-options query-commands query-hotpluggable-cpus query-iothreads query-memdev query-name
    query-named-block-nodes query-pr-managers query-qmp-schema query-status query-uuid query-version set-action set-numa-node
    x-blockdev-amend x-blockdev-change x-blockdev-set-iothread x-debug-block-dirty-bitmap-sha256 x-debug-query-block-graph
    """
SERVES = frozenset(_SERVES.split())
# Assembling a machine is what ratite has this phase for.
ASSEMBLY = frozenset({"device_add", "device_del"})
# These can't be asked with an argument that they refuse.
NOT_ASKED = frozenset({"qmp_capabilities", "quit", "x-exit-preconfig", "system_reset"})
START = ("-nodefaults", "-display", "none", "-machine", "none", "-preconfig")
TOO_EARLY = "The command '{}' is permitted only after machine initialization has completed"
TOO_LATE = "The command is permitted only before machine initialization"


def _refusal(qmp: Client, command: str, **arguments: Any) -> str:
    with pytest.raises(CommandError) as caught:
        qmp.execute(command, arguments)
    return caught.value.desc


def _phases(qmp: Client) -> tuple[set[str], set[str]]:
    """(the commands that serve, those that are told to wait)."""
    serving, waiting = set(), set()
    for name in sorted(row["name"] for row in qmp.execute("query-commands")):
        if name not in NOT_ASKED:
            refusal = _refusal(qmp, name, **{"no-such-argument": 1})
            (waiting if refusal == TOO_EARLY.format(name) else serving).add(name)
    return serving, waiting


def test_which_commands_serve(shims: Shims) -> None:
    process, qmp = shims.start("riscv64", *START)
    with qmp:
        serving, waiting = _phases(qmp)
        assert serving == (SERVES | ASSEMBLY) & (serving | waiting)
        assert waiting
        qmp.execute("quit")
    assert process.wait(60) == 0


@pytest.mark.peer
def test_which_commands_serve_in_a_recent_qemu(tmp_path: Path) -> None:
    program = os.environ.get("RATITE_RECENT_QEMU") or shutil.which("qemu-system-riscv64")
    if program is None:
        pytest.skip("no QEMU is installed")
    with Shims(Path(program).parent, tmp_path) as peer:
        peer.path = lambda target: program  # type: ignore[method-assign]
        process, qmp = peer.start("riscv64", *START)
        with qmp:
            if qmp.execute("query-version")["qemu"]["major"] < 10:
                pytest.skip("the QEMU that is installed is older than 10.0")
            serving, waiting = _phases(qmp)
            assert serving == SERVES & (serving | waiting)
            qmp.execute("quit")
        process.wait(60)


@pytest.mark.parametrize("paused", [False, True])
def test_the_phase_ends(shims: Shims, paused: bool) -> None:
    process, qmp = shims.start("riscv64", *START, *(("-S",) if paused else ()))
    with qmp:
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        assert _refusal(qmp, "cont") == TOO_EARLY.format("cont")
        qmp.execute("x-exit-preconfig")
        assert [event["event"] for event in qmp.events] == ([] if paused else ["RESUME"])
        state = {"running": not paused, "status": "prelaunch" if paused else "running"}
        assert qmp.execute("query-status") == state
        assert _refusal(qmp, "x-exit-preconfig") == TOO_LATE
        qmp.execute("cont")
        assert qmp.execute("query-status") == {"running": True, "status": "running"}
        qmp.execute("quit")
    assert process.wait(60) == 0


def test_without_the_phase_its_end_is_refused(shims: Shims) -> None:
    _, qmp = shims.start("riscv64", *START[:-1], "-S")
    with qmp:
        assert _refusal(qmp, "x-exit-preconfig") == TOO_LATE


def test_a_machine_that_cannot_be_is_an_answer_and_can_be_mended(shims: Shims) -> None:
    _, qmp = shims.start("riscv64", *START)
    with qmp:
        qmp.execute("device_add", {"driver": "ns16550", "id": "uart", "chardev": "nowhere"})
        assert "nowhere" in _refusal(qmp, "x-exit-preconfig")
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        qmp.execute("device_del", {"id": "uart"})
        qmp.execute("x-exit-preconfig")
        assert qmp.execute("query-status")["running"]
