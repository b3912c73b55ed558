"""Commands that tell of a machine as a whole under either personality: texts for people, actions, what there is none of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ratite.clients.machines import board, one_cpu
from ratite.clients.qmp import Client, CommandError, DaemonProcess
from tests.daemon.test_daemon_machine import assemble
from tests.guests.guest_run import ELF

HELLO = str(ELF / "hello.rv64.elf")
TEXTS = ("x-query-roms", "x-query-ramblock", "x-query-irq", "x-query-interrupt-controllers")


def text(qmp: Client, command: str) -> str:
    found: str = qmp.execute(command)["human-readable-text"]
    return found


def test_without_a_machine(shared: str) -> None:
    with Client.connect(f"unix:{shared}") as qmp:
        assert [text(qmp, command).split() for command in TEXTS] == [
            [], ["Block", "Name", "PSize", "Offset", "Used", "Total", "HVA", "RO"], [], [],
        ]  # fmt: skip
        for command in ("query-tpm-models", "query-tpm-types", "query-migrate-capabilities",
                        "query-iothreads", "query-memory-devices", "query-memdev"):  # fmt: skip
            assert qmp.execute(command) == []
        # What libvirt asks of every machine; the rest can't be had yet.
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": False}])
        with pytest.raises(CommandError, match="Capability 'xbzrle' can't be turned on: machines can't be migrated yet"):
            qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": True}])


def test_texts_of_a_machine(daemon: DaemonProcess) -> None:
    with daemon.client() as qmp:
        qmp.execute("machine-create")
        qmp.execute("chardev-add", {"id": "console", "backend": {"type": "null", "data": {}}})
        for command, arguments in one_cpu("rv64", Path(HELLO), "console", accel="interp"):
            qmp.execute(command, arguments)
        qmp.execute("device_add", driver="riscv.sifive.plic", id="plic0", num_sources=8)
        qmp.execute("wire-irq", {"from": "plic0", "output": "meip", "to": "cpu", "input": "meip"})
        qmp.execute("machine-wire")
        (block,) = text(qmp, "x-query-ramblock").splitlines()[1:]
        assert re.fullmatch(r" +ram +4 KiB  0x0{16} (0x\w{16}) \1 0x\w{16}  rw", block), block
        qmp.execute("set-action", shutdown="pause")
        qmp.execute("x-exit-preconfig")
        qmp.wait_event("STOP")
        (rom, *_) = text(qmp, "x-query-roms").splitlines()
        assert rom.startswith(f'addr={board("rv64").ram:016x} size=0x') and rom.endswith(f'mem=ram name="{HELLO}"')
        assert text(qmp, "x-query-irq") == "/machine/peripheral/plic0 meip[0] -> /machine/peripheral/cpu meip[0]: 0\n"
        assert text(qmp, "x-query-interrupt-controllers").startswith("/machine/peripheral/plic0 (riscv.sifive.plic)\n  ")


@pytest.mark.parametrize("personality", ["ratite", "qemu"])
def test_refusals(toy: DaemonProcess, personality: str) -> None:
    with toy.client() as qmp, toy.client() as asking:
        assemble(qmp)
        qmp.execute("x-exit-preconfig")
        asking.execute("view-select", personality=personality)
        for command, why in (
            ("system_wakeup", "wake-up from suspend is not supported by this guest"),
            ("inject-nmi", "machine does not provide NMIs"),
        ):
            with pytest.raises(CommandError, match=why):
                asking.execute(command)
        with pytest.raises(CommandError, match="Parameter 'reboot' does not accept value 'x'"):
            asking.execute("set-action", reboot="x")


def test_what_was_chosen_before_the_machine(toy: DaemonProcess) -> None:
    with toy.client() as qmp:
        qmp.execute("set-action", panic="exit-failure")
        qmp.execute("set-action", reboot="shutdown")
        assemble(qmp, "panic")
        qmp.execute("x-exit-preconfig")
        assert qmp.wait_event("GUEST_PANICKED")["data"]["action"] == "poweroff"
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-panic", "code": 1}
    assert toy.process.wait(60) == 1
