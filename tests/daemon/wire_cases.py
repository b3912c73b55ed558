"""What is sent to a monitor, and how an emulator of whichever make is asked: the rows of data/wire-answers.json.

A row is one connection of its own: the bytes, then a command whose answer ends it.  The answers that are kept came
from QEMU with `-M none`; `python tests/daemon/wire_cases.py QEMU-SYSTEM-...` asks one that is installed and writes
what it says: its answers as "10.0" if it is of version 10.0, and as "7.2", if it is that one, where they differ.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ANSWERS = HERE / "data" / "wire-answers.json"
THE_END = b'{"execute":"query-name","id":"the end"}'

sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from daemon_kit import Raw  # noqa: E402


def run(name: str, /, **arguments: Any) -> bytes:
    """A command as text; `_` in members stands for `-`."""
    message: dict[str, Any] = {"execute": name}
    if arguments:
        message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
    return json.dumps(message).encode() + b"\n"


def named(id: str) -> bytes:
    """A good command with an id that is written so."""
    return b'{"execute":"query-name","id":' + id.encode() + b"}\n"


def _ram(**more: Any) -> bytes:
    return run("object-add", qom_type="memory-backend-ram", **more)


def _socket(address: dict[str, Any], **more: Any) -> bytes:
    return run("chardev-add", id="c0", backend={"type": "socket", "data": {"addr": address, **more}})


NEGOTIATION: list[bytes] = [
    run("query-status"), run("nope"), run("qmp_capabilities"), b'{"execute":"qmp_capabilities","id":1}\n' * 2,
    run("qmp_capabilities", enable=["oob"]) + run("query-name"), run("qmp_capabilities", enable=["xyz"]) + run("query-name"),
    run("qmp_capabilities", enable=["oob", "oob"]), run("qmp_capabilities", enable=[1]), run("qmp_capabilities", enable="oob"),
    run("qmp_capabilities", enable={}), run("qmp_capabilities", enable=None), run("qmp_capabilities", other=1),
    run("qmp_capabilities", enable=[]) + b'{"exec-oob":"query-name"}',
    b'{"exec-oob":"query-status","id":1}\n', b'{"exec-oob":"qmp_capabilities"}\n', b"42\n", b"{}\n", b"}\n",
]  # fmt: skip

OUT_OF_BAND: list[bytes] = [
    b'{"exec-oob":"%s","id":1}\n' % name for name in (b"query-status", b"x-nope", b"qmp_capabilities", b"query-yank")
] + [
    b'{"exec-oob":"query-name","execute":"query-name","id":2}\n', b'{"execute":"query-name","exec-oob":"query-name"}\n',
    b'{"exec-oob":1}\n', b'{"exec-oob":null,"id":3}\n', b'{"exec-oob":"query-status","arguments":[]}\n', run("query-name"),
    b'{"exec-oob":"migrate-pause"}\n', b'{"exec-oob":"migrate-recover","id":3,"arguments":{"uri":"x"}}\n',
]  # fmt: skip

READY: list[bytes] = [
    # names and ids
    run("nope"), run(""), run("qmp_capabilities"), b'{"execute":"nope","id":{"a":[1,2,{"x":null}]}}\n',
    b'{"id":"first","execute":"query-name"}\n', named("7") * 2,
    *map(named, ("null", '"s"', "1.50", '[1,"a"]', "true", "{}", '"\\u0000"', "12345678901234567890")),
    # the outer object
    b"42\n", b'"hi"\n', b"[1,2]\n", b"null\n", b"true\n", b"-1.5\n", b"{}\n", b'{"id":5}\n', b'{"arguments":{},"id":5}\n',
    b'{"execute":1,"id":5}\n', b'{"execute":null}\n', b'{"execute":{}}\n', b'{"execute":"query-name","foo":1,"id":5}\n',
    b'{"execute":"query-name","control":{"run-oob":true},"id":5}\n', b'{"exec-oob":"query-name","id":6}\n',
    *(b'{"execute":"query-name","arguments":%s}\n' % text for text in (b"[]", b"null", b'"x"', b"0", b"{}")),
    b'{"execute":"query-name","id":1,"id":2}\n', b'{"execute":"query-name","execute":"query-version"}\n',
    b'{"execute":"qom-list","arguments":{"path":"/","path":"/machine"}}\n',
    # arguments
    b'{"execute":"qom-list","id":5}\n', run("qom-list", bogus=1), run("qom-list", path="/", bogus=1), run("query-name", x=1),
    run("query-name", x=1, y=2), run("query-status", zulu=1, alpha=2, mike=3), run("query-fdsets", b=1, a=2),
    *(run("qom-list", path=value) for value in (1, None, True, [], {}, 1.5)), run("qom-list-types", abstract="yes"),
    run("qom-list-types", abstract=0), run("qom-list-types", implements=3), run("remove-fd", fdset_id="1"),
    run("remove-fd", fdset_id=1.5), run("remove-fd", fdset_id=99), run("remove-fd", fdset_id=1 << 64),
    run("memsave", val="1", size=1, filename="x"), run("memsave", val=1.5, size=1, filename="x"),
    run("memsave", val=-1, size=1, filename="/nonexistent/x"), run("memsave", val=1 << 70, size=1, filename="x"),
    run("memsave", val=0, size=4, filename="/nonexistent/x"), run("memsave", val=0, size=4),
    run("human-monitor-command", command_line="info version", cpu_index=99999999999999999999),
    run("human-monitor-command", command_line="info cpus", cpu_index=5),
    # enums, lists, unions
    run("set-action", reboot="explode"), run("set-action", panic="none", bogus="none"), run("set-action", reboot=1),
    run("migrate-set-capabilities", capabilities=[{"capability": "xbzrle"}]),
    run("object-add", qom_type="nope", id="a"), run("object-add", id="a"), run("object-add", qom_type=1, id="a"),
    _ram(id="a"), _ram(size=4096), _ram(id="a", size="x"), _ram(id="b", size=4096, zz=1), _ram(id="1 b", size=4096),
    _ram(id="", size=4096), _ram(id="a", size=4096) * 2 + run("object-del", id="a") * 2, _ram(id="a", size=4096, share=1),
    run("object-del", id="zzz"), run("object-del"),
    _socket({"type": "inet", "data": {"host": "x"}}), _socket({"type": "inet", "data": {"host": "x", "port": 1}}),
    _socket({"type": "nope", "data": {}}), _socket({"type": "unix"}), _socket({"data": {}}), _socket({}),
    _socket({"type": "fd", "data": {"str": "nofd"}}), _socket({"type": "unix", "data": {"path": "x"}}, server="on"),
    run("chardev-add", id="c", backend={"type": "nope", "data": {}}), run("chardev-add", id="c", backend={"type": "null"}),
    run("chardev-add", id="c", backend={"type": "ringbuf", "data": {"size": 15}}), run("chardev-add", id="c", backend=1),
    run("chardev-add", id="f", backend={"type": "file", "data": {"out": "/nonexistent/x"}}), run("chardev-add", id="c"),
    run("blockdev-add", driver="nope", node_name="n"), run("blockdev-add", node_name="n"), run("blockdev-add", driver="file"),
    run("blockdev-add", driver="raw", node_name="n"), run("blockdev-add", driver="file", node_name="n", zz=1, filename="x"),
    run("blockdev-add", driver="null-co", node_name="n", zzz=1), run("blockdev-add", driver="null-co"),
    run("blockdev-add", driver="raw", node_name="n", file={"driver": "file", "filename": 1}),
    run("netdev_add", type="nope", id="n"), run("netdev_add", type="user"), run("netdev_add", id="n"),
    run("netdev_add", type="stream", id="n"), run("netdev_add", type="stream", id="n", addr={"type": "inet", "host": "x"}),
    # objects, devices, backends
    run("device_add"), run("device_add", driver="nope"), run("device_add", driver="object"), run("device_add", driver="device"),
    run("device_add", driver=1), run("device_del", id="nope"), run("device_del"),
    run("device-list-properties", typename="nope"), run("device-list-properties", typename="object"),
    run("device-list-properties", typename="device"), run("qom-list-properties", typename="zzz"),
    run("qom-get", path="/nope", property="x"), run("qom-get", path="/machine", property="x"), run("qom-get", path="/machine"),
    run("qom-get", path="", property="x"), run("qom-list", path="/nope"), run("qom-set", path="/nope", property="x", value=1),
    run("qom-set", path="/machine", property="type", value=1), run("qom-set", path="/machine", property="x", value=1),
    run("qom-set", path="/machine", property="type"), run("qom-set", path="/machine", property="graphics", value="abc"),
    run("balloon", value=1), run("query-balloon"), run("block_resize", device="zz", size=1), run("netdev_del", id="zz"),
    run("blockdev-del", node_name="zz"), run("chardev-remove", id="nope"), run("chardev-send-break", id="nope"),
    run("ringbuf-read", device="nope", size=4), run("ringbuf-write", device="nope", data="!", format="base64"),
    run("ringbuf-read", device="nope", size=4, format="utf9"), run("set_link", name="nope", up=True),
    run("getfd", fdname="x"), run("getfd", fdname="1"), run("closefd", fdname="x"), run("add-fd", fdset_id=-1), run("add-fd"),
    run("query-rx-filter", name="nope"), run("inject-nmi"), run("query-hotpluggable-cpus"), run("system_wakeup"),
    run("watchdog-set-action", action="nope"), run("query-cpus-fast"), run("query-iothreads"), run("query-memdev"),
    run("query-memory-devices"), run("query-memory-size-summary"), run("query-current-machine"), run("query-block"),
    run("query-named-block-nodes"), run("query-blockstats"), run("query-pci"), run("query-fdsets"), run("query-uuid"),
    run("query-target"), run("query-tpm"), run("query-tpm-types"), run("query-tpm-models"), run("query-jobs"),
    run("query-block-jobs"), run("query-mice"), run("query-dump"), run("x-exit-preconfig"), run("query-events"),
    run("query-balloon", x=1), run("set-numa-node", type="node", nodeid=0), run("dump-guest-memory", paging=False),
    run("dump-guest-memory", paging=False, protocol="nope:x"), run("trace-event-get-state", name="nope"),
    run("query-stats", target="nope"), run("query-stats", target="vm"), run("yank", instances=[{"type": "chardev", "id": "c"}]),
    # run state and events
    *(run(name) + run("query-status") for name in ("stop", "cont", "system_reset", "system_powerdown")),
    run("stop") * 2 + run("cont") * 2 + run("query-status"),
    run("stop") + run("system_reset") + run("query-status") + run("cont"),
    # syntax
    b"hello\n", b"}\n", b"]\n", b"{]\n", b"[}\n", b":\n", b",\n", b'{"execute":\n"query-name"}\n', b"\n \t\r\n",
    b'{"execute":"query-st\nfoo"}\n', b'{"execute":"query-name",}\n', b'{"execute" "query-name"}\n', b"[1,]\n", b"[,1]\n",
    b'{"execute":"query-name" "id":1}\n', b"{1:2}\n", b'{execute:"query-name"}\n', b"{'execute':'query-name'}\n", b"[1 2]\n",
    b"{'execute':'query-name','id':'it\\'s \"q\"'}\n", b"tru\n", b"falsehood\n", b"None\n", b"# c\n" + run("query-name"),
    b"/* c */\n" + run("query-name"), b'{"execute":"query-name","id":%d}\n', b'{"execute":"query-name","id":"%s"}\n',
    b'{"execute":"query-name","id":1}{"execute":"query-name","id":2}', b'{"a":{"b":[{"c"]}}}\n', b'"\n', b"'\n", b"\\\n",
    # strings
    *map(named, ('"\\q"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00"', '"\\u12"', '"\\uFFFF"', '"\\u00e9\\/\\b\\f\\n\\r\\t"',
                 '"h\u00e9llo \u2603 \U0001f600"', '"a\x7f\\u0001\\u007f"', '"a\tb"', '"\x01"', "'\"'")),
    *(b'{"execute":"query-name","id":"%s"}\n' % text for text in (
        b"a\xc3(b", b"\xc0\x80", b"a\xffb", b"\xef\xbf\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x98", b"\x80")),
    b"\x00" + run("query-name"), b"\xff", b"\xfe\n", b'{"execute":"query-st\xff{"execute":"query-name","id":"after"}\n',
    b'{"execute":\xff{"execute":"query-name","id":"after"}\n', b"\xff\xff" + run("query-name"),
    # numbers
    *map(named, ("1e3", "0x10", "01", "-0", ".5", "1.", "NaN", "1e400", "0.1", "18446744073709551615", "18446744073709551616",
                 "-9223372036854775808", "-9223372036854775809", "123456789012345678901234567890", "+1", "-", "1e", "1e+2",
                 "5e-324", "1E5", "0.0", "-0.0", "Infinity", "0e1")),
    # limits
    named("[" * 400 + "]" * 400), named('"' + "a" * 3000 + '"'),
]  # fmt: skip

GROUPS: dict[str, list[bytes]] = {"new": NEGOTIATION, "oob": OUT_OF_BAND, "ready": READY}


def rows() -> Iterator[tuple[str, bytes]]:
    """(group, bytes) of every row."""
    for group, sent in GROUPS.items():
        yield from ((group, data) for data in sent)


def _integer(digits: str) -> int | str:
    return int(digits) if str(int(digits)) == digits else f"digits {digits}"


def _read(line: bytes) -> Any:
    """A message in which the digits of a number still count."""
    try:
        message = json.loads(line, parse_float=lambda digits: f"float {digits}", parse_int=_integer)
    except ValueError:
        return {"no JSON": line.decode("latin-1")}
    if isinstance(message, dict):
        message.pop("timestamp", None)
        if isinstance(message.get("return"), dict):
            message["return"].pop("singlestep", None)
    return message


def ask(place: str, group: str, sent: bytes) -> list[Any]:
    """Everything that is answered to `sent` at the monitor `place`, on a connection of its own."""
    with Raw(place, negotiate=False) as raw:
        if group != "new":
            assert raw.ask(run("qmp_capabilities", enable=["oob"] if group == "oob" else [])) == {"return": {}}
        raw.send(sent)
        raw.send(b"\n" + THE_END + b"\n")
        found = []
        while True:
            message = raw.line(_read)
            if message is None or message.get("id") == "the end":
                return found if message is None or "return" in message else [*found, message]
            found.append(message)


def version(program: str) -> str:
    """A QEMU's version, "10.0"."""
    words = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()
    return ".".join(words[words.index("version") + 1].split(".")[:2])


def _listens(place: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(place) == 0


@contextmanager
def peer(program: str) -> Iterator[str]:
    """QEMU, or what stands in for it, without a machine; the place of its monitor."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/qmp"
        command = [program, "-M", "none", "-nodefaults", "-display", "none", "-qmp", f"unix:{place},server=on,wait=off"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)
        try:
            end = time.monotonic() + 20
            while not _listens(place) and time.monotonic() < end:
                time.sleep(0.01)
            yield place
        finally:
            process.kill()
            process.wait()


def ask_peer(place: str, group: str, sent: bytes) -> list[Any]:
    """The same of QEMU, which serves one client and needs a moment to see that the last one is gone."""
    end = time.monotonic() + 20
    while True:
        try:
            return ask(place, group, sent)
        except (TimeoutError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def load() -> dict[tuple[str, bytes], dict[str, list[Any]]]:
    """The answers that are kept: {version: messages} of each row; "10.0" is always among them."""
    kept = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else []
    return {(group, sent.encode("latin-1")): answers for group, sent, answers in kept}


def main(program: str) -> None:
    """Ask QEMU and keep what it says."""
    which, kept = version(program), load()
    lines = []
    with peer(program) as place:
        for group, sent in rows():
            answers = dict(kept.get((group, sent), {}))
            answers[which] = ask_peer(place, group, sent)
            if which != "10.0" and answers[which] == answers.get("10.0"):
                del answers[which]
            lines.append(json.dumps([group, sent.decode("latin-1"), dict(sorted(answers.items()))]))
    ANSWERS.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
