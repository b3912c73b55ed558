"""Python programs that start an emulator themselves, with a monitor at one end of a socket pair, and speak with qemu.qmp."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress

import pytest
from personality_kit import Shims


async def test_a_monitor_at_an_inherited_pair(shims: Shims) -> None:
    qmp = pytest.importorskip("qemu.qmp")
    near, far = socket.socketpair()
    with far:
        words = ["-display", "none", "-vga", "none", "-machine", "none", "-nodefaults"]
        words += ["-chardev", f"socket,id=mon,fd={far.fileno()}", "-mon", "chardev=mon,mode=control"]
        process = subprocess.Popen([shims.path("riscv64"), *words], stdin=subprocess.DEVNULL, pass_fds=[far.fileno()])
    try:
        client = qmp.QMPClient("test")
        await client.connect(near)
        assert (await client.execute("query-target"))["arch"] == "riscv64"
        assert [row["label"] for row in await client.execute("query-chardev")] == ["mon"]
        with pytest.raises(qmp.ExecuteError, match="The command nope has not been found"):
            await client.execute("nope")
        with client.listen(events := qmp.EventListener()):
            await client.execute("quit")
            assert (await events.get())["event"] == "SHUTDOWN"
        assert process.wait(60) == 0
        with suppress(EOFError):  # it may have seen the end already
            await client.disconnect()
    finally:
        process.kill()
        process.wait()
