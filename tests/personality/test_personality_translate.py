"""`ratite translate`: the machine file of a command line is the machine of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from personality_kit import Shims

from ratite.clients.cli.main import main
from ratite.clients.qmp import Client, DaemonProcess
from ratite.core.objects.registry import TypeRegistry
from ratite.daemon.personality.as_file import text_of
from ratite.daemon.personality.commandline import read
from ratite.daemon.personality.line import Line
from ratite.daemon.personality.start import Start
from ratite.daemon.personality.syntax import CommandLineError
from ratite.daemon.personality.translate import translate
from ratite.daemon.views import load_schema
from ratite.qapi.machinefile.compile import Compiler
from ratite.qapi.machinefile.declarations import Declarations

REGISTRY = TypeRegistry()
LINES = {
    "small": ("microblaze", "-nodefaults -m 64"),
    "virt": (
        "riscv64",
        "-M virt -smp 2 -m 256 -accel interp -nodefaults -chardev null,id=c -serial chardev:c -object rng-builtin,id=r "
        "-device pcie-root-port,id=rp,chassis=1 -device virtio-rng-pci,id=a,bus=rp,rng=r -device virtio-rng-device,id=b "
        "-device virtio-rng-device -device virtio-rng-device,bus=virtio-mmio-bus.0 -device virtio-rng-pci,addr=7",
    ),
}


def text(target: str, words: list[str]) -> str:
    """The file."""
    return text_of(Line(Start(f"qemu-system-{target}", target), read(words)))


@pytest.mark.parametrize("name", LINES)
def test_the_file_is_the_machine(name: str, tmp_path: Path, shims: Shims) -> None:
    target, words = LINES[name]
    compiler = Compiler(Declarations({row.name: row.data for row in REGISTRY.types()}, REGISTRY.targets(), load_schema()))
    commands = compiler.compile_text(text(target, words.split()), {}, None, "file").commands
    _, there = shims.start(target, *words.split(), "-S")
    with DaemonProcess(tmp_path / "qmp", "--paused") as daemon, daemon.client() as here, there:
        for command, arguments in commands:
            here.execute(command, arguments)
        mine, theirs = parts(here), parts(there)
    # What the machine type is made of is among a file's devices, and devices without an id got one.
    assert sorted(mine.values(), key=repr) == sorted(theirs.values(), key=repr)
    moved = {path.replace("/unattached/", "/peripheral/") for path in theirs if "peripheral-anon" not in path}
    assert mine.keys() & moved == moved


def parts(qmp: Client) -> dict[str, Any]:
    """Type, bus and lines of every device and object, by path."""
    found = {}
    places = ["/objects", *(f"/machine/{name}" for name in children(qmp, "/machine"))]
    for path, kind in [(f"{place}/{name}", kind) for place in places for name, kind in children(qmp, place).items()]:
        properties = {each["name"] for each in qmp.execute("qom-list", {"path": path})}
        wanted = properties & {"bus", "addr", "size", "chardev", "rng"}
        seen = {name: str(qmp.execute("qom-get", {"path": path, "property": name})) for name in sorted(wanted)}
        found[path] = (kind, {name: value.rpartition("/")[2] for name, value in seen.items()})
    return found


def children(qmp: Client, path: str) -> dict[str, str]:
    """Name and type."""
    return {row["name"]: row["type"] for row in qmp.execute("qom-list", {"path": path}) if row["type"].startswith("child<")}


def test_what_is_no_machine_stands_in_comments() -> None:
    made = text("microblaze", ["-S", "-nodefaults", "-pidfile", "p", "-qmp", "unix:q,server=on,wait=off"])
    assert made.endswith("# not part of a machine:\n#   -S\n#   -pidfile p\n#   -qmp unix:q,server=on,wait=off\n")
    assert "compat_monitor" not in made


def test_files_need_not_exist_and_defaults_are_not_written() -> None:
    made = text("microblaze", ["-nodefaults", "-kernel", "/nonexistent/kernel", "-drive", "file=disk.img,if=none,id=d"])
    assert "kernel: /nonexistent/kernel" in made and "filename: disk.img" in made
    assert "virtual-time" not in made and "pvr" not in made


def test_the_verb(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", "qemu-system-microblaze -nodefaults -m 64"]) == 0
    whole = capfd.readouterr().out
    assert whole.startswith("ratite: 1\n")
    assert main(["translate", "qemu-system-microblaze", "-nodefaults", "-m", "64"]) == 0
    assert capfd.readouterr().out == whole
    assert main(["translate", "--json", "qemu-system-microblaze -nodefaults"]) == 0
    assert capfd.readouterr().out.startswith('{\n  "ratite": 1')
    assert main(["translate", "qemu-system-vax -nodefaults"]) == 1
    assert "the first word must be a program in QEMU's place: qemu-system-" in capfd.readouterr().err
    assert main(["translate", "qemu-system-microblaze -foo"]) == 1
    assert capfd.readouterr().err == "qemu-system-microblaze: -foo: invalid option\n"


def start(*words: str) -> Start:
    """What a command line comes to."""
    every = ["-M", "virt", "-bios", "none", "-nodefaults"]
    return translate(Line(Start("qemu-system-riscv64", "riscv64"), read([*every, *words])))


def given(made: Start, command: str) -> dict[str, Any]:
    """The arguments of the one command of this name that options asked for."""
    (step,) = [step for step in made.steps if step.command == command]
    return step.arguments


def test_lists_of_texts_are_written_as_texts_again_and_again() -> None:
    made = start("-netdev", "user,id=n,hostfwd=tcp::2222-:22,hostfwd=udp::5353-:53")
    assert given(made, "netdev_add")["hostfwd"] == [{"str": "tcp::2222-:22"}, {"str": "udp::5353-:53"}]
    made = start("-netdev", "user,id=n,dnssearch.0.str=example.org")
    assert given(made, "netdev_add")["dnssearch"] == [{"str": "example.org"}]


@pytest.mark.parametrize(("words", "wanted"), [
    ("readonly=on", {"read-only": True}),
    ("cache=none", {"cache": {"direct": True, "no-flush": False}}),
    ("cache=unsafe,aio=threads,snapshot=off", {"cache": {"direct": False, "no-flush": True}}),
])
def test_drives_have_words_of_their_own(words: str, wanted: dict[str, Any]) -> None:
    made = given(start("-drive", f"file=disk,format=raw,if=none,id=d,{words}"), "blockdev-add")
    assert {key: made[key] for key in made.keys() - {"driver", "node-name", "file"}} == wanted


@pytest.mark.parametrize(("words", "text"), [
    (["-drive", "file=d,if=none,id=d,cache=directsync"], "cache: must be one of writeback, none, off, unsafe"),
    (["-drive", "file=d,if=none,id=d,aio=native"], "aio: must be 'threads'"),
    (["-drive", "file=d,if=none,id=d,snapshot=on"], "snapshot: must be 'off'"),
    (["-cpu", ""], "^-cpu option cannot be empty$"),
    (["-kernel", ""], "^could not load kernel ''$"),
    (["-accel", "tcg,bogus=1"], "^-accel tcg,bogus=1: Property 'tcg-accel.bogus' not found$"),
    (["-accel", "tcg,thread=foo"], "^-accel tcg,thread=foo: thread: must be 'single' or 'multi'$"),
    (["-daemonize", "-serial", "mon:stdio"], "^-serial mon:stdio: cannot use stdio with -daemonize$"),
    (["-daemonize", "-chardev", "stdio,id=c"], "^-chardev stdio,id=c: cannot use stdio with -daemonize$"),
    (["-m", "-1"], "^-m -1: Value '-1' is out of range for parameter 'size'$"),
    (["-m", "16E"], "^-m 16E: Value '16E' is out of range for parameter 'size'$"),
])
def test_what_cannot_be_is_refused(words: list[str], text: str) -> None:
    with pytest.raises(CommandLineError, match=text):
        start(*words)


def test_empty_sizes_and_counts_are_the_defaults() -> None:
    assert start("-m", "0", "-smp", "").board == start().board == start("-m", "").board


def test_a_configuration_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff\xfe\x85[device]\n")
    with pytest.raises(CommandLineError, match="line 1: parse error"):
        start("-readconfig", str(tmp_path / "junk"))
