"""Machine types: files whose headers say what options set; what a machine is made of when it is started so."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from personality_kit import Shims

from ratite.clients.qmp import CommandError
from ratite.core.objects.registry import TypeRegistry
from ratite.daemon.personality.commandline import read
from ratite.daemon.personality.line import Line
from ratite.daemon.personality.start import Start
from ratite.daemon.personality.syntax import CommandLineError
from ratite.daemon.personality.translate import translate
from ratite.daemon.views import load_schema
from ratite.qapi.machinefile import files, types
from ratite.qapi.machinefile.compile import Compiled, Compiler
from ratite.qapi.machinefile.declarations import Declarations

TARGETS = sorted(TypeRegistry().targets())
KINDS = types.machine_types()
ELF = Path(__file__).parents[1] / "guests" / "elf"
PROFILES = [profile.full_name for profile in files.profiles() if types.HEADER in profile.path.read_text()]
MACHINES = [(target, kind.name) for kind in KINDS.values() for target in kind.targets]


def start(target: str, *words: str) -> Start:
    """What a command line comes to."""
    return translate(Line(Start("qemu", target), read(words)))


def board(target: str, *words: str) -> dict[str, dict[str, Any]]:
    """The arguments of the machine's own commands that make things, by id."""
    return {step.arguments["id"]: step.arguments for step in start(target, *words).board if "id" in step.arguments}


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    """Checks files as those of users are."""
    registry = TypeRegistry()
    return Compiler(Declarations({row.name: row.data for row in registry.types()}, registry.targets(), load_schema()))


def test_the_index_is_fresh() -> None:
    assert types.main(["--check"]) == 0


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].targets])
def test_a_machine_type_is_a_good_file_and_its_header_names_what_is_there(name: str, compiler: Compiler) -> None:
    kind = KINDS[name]
    text = Path(kind.origin).read_text()
    for target in kind.targets:
        arguments = {kind.get("target"): target, kind.get("cpu"): kind.get("cpu-types")[target]}
        made = compiler.compile_text(text, arguments, None, kind.origin)
        assert kind.get("ram") in {given.get("id") for _, given in made.commands}
        names_what_is_there(kind, made)
    assert made.description and all(parameter.text for parameter in made.parameters.values())


@pytest.mark.parametrize("name", PROFILES)
def test_a_header_of_a_profile_names_what_is_there(name: str, compiler: Compiler) -> None:
    kind = types.MachineType("hetero", types.read_file(str(files.profile(name).path)), name)
    assert kind.header
    names_what_is_there(kind, compiler.compile_named(name, {}, files.read))


def names_what_is_there(kind: types.MachineType, made: Compiled) -> None:
    """Things of the machine with their properties, and parameters of the file."""
    ids = {given.get("id"): given for _, given in made.commands}
    for place in [*kind.get("aliases", {}).values(), *kind.get("serials")]:
        owner, _, prop = place.rpartition("/")
        rows = TypeRegistry().properties(ids[owner]["driver"])
        assert prop in {row["name"] for row in rows if row["kind"] == "config"}
    roles = [kind.get(key) for key in ("target", "cpu", "cpus", "memory", "accel") if kind.get(key)]
    assert set(roles) <= made.parameters.keys()


@pytest.mark.parametrize(("target", "name"), MACHINES)
def test_every_machine_starts(shims: Shims, target: str, name: str) -> None:
    _, qmp = shims.start(target, "-M", name, "-S", "-nodefaults", "-display", "none", "-accel", "interp")
    with qmp:
        assert qmp.execute("query-status") == {"running": False, "status": "prelaunch"}
        assert qmp.execute("qom-get", {"path": "/machine", "property": "type"}) == f"{name}-machine"
        assert [row["target"] for row in qmp.execute("query-cpus-fast")] == [target]
        assert qmp.execute("query-memory-size-summary")["base-memory"] >= 128 << 20


def test_options_set_what_the_header_says(tmp_path: Path) -> None:
    made = board(
        "riscv64", "-M", "virt", "-smp", "3", "-m", "96", "-bios", "none", "-kernel", "K", "-append", "A",
        "-cpu", "rv64,zba=off", "-nodefaults", "-chardev", "null,id=c", "-serial", "chardev:c", "-accel", "interp",
    )  # fmt: skip
    cpus = [given for given in made.values() if given.get("driver") == "rv64-riscv-cpu"]
    assert len(cpus) == 3 and all(given["zba"] is False for given in cpus)
    assert (cpus[0]["kernel"], cpus[0]["append"]) == ("K", "A") and "kernel" not in cpus[1]
    assert made["riscv_virt_board.ram"]["size"] == 96 << 20
    assert made["virt.uart0"]["chardev"] == "c"
    assert made["virt.cluster"]["accel"] == "interp"


def test_memory_backend_replaces_the_ram(shims: Shims) -> None:
    _, qmp = shims.start(
        "riscv64", "-M", "virt,memory-backend=mine", "-m", "64", "-object", "memory-backend-ram,id=mine,size=64M", "-S",
        "-nodefaults", "-accel", "interp",
    )  # fmt: skip
    with qmp:
        assert qmp.execute("query-memory-size-summary") == {"base-memory": 64 << 20}


def test_what_is_not_there_may_be_asked_to_be_none() -> None:
    words = ("-vga", "none", "-audiodev", '{"id":"audio1","driver":"none"}', "-audiodev", "none,id=a", "-sandbox", "off")
    assert start("riscv64", "-M", "virt", *words).board


def test_network_backends_take_inherited_descriptors() -> None:
    more = ["-netdev", '{"type":"tap","fd":"30","id":"a"}', "-netdev", "socket,id=b,fd=31"]
    more += ["-netdev", "stream,id=c,addr.type=fd,addr.str=32"]
    assert start("riscv64", "-M", "virt", *more).fds == {"30": 30, "31": 31, "32": 32}


def test_the_order_of_options_means_nothing() -> None:
    groups = [
        ["-device", "pcie-root-port,id=rp,chassis=1"], ["-device", "virtio-blk-pci,id=d,bus=rp,drive=top"],
        ["-blockdev", "raw,node-name=top,file=low"], ["-blockdev", "file,node-name=low,filename=x"],
        ["-object", "rng-builtin,id=r"], ["-device", "virtio-rng-pci,id=g,rng=r,bus=pcie.0"], ["-chardev", "null,id=c"],
        ["-serial", "chardev:c"], ["-M", "virt,memory-backend=m"], ["-object", "memory-backend-ram,id=m,size=128M"],
        ["-smp", "2"], ["-global", "virtio-blk-pci.num-queues=2"], ["-nodefaults"],
    ]  # fmt: skip

    def made(order: list[list[str]]) -> tuple[set[str], list[str], list[str]]:
        found = start("riscv64", *[word for group in order for word in group])
        commands = [repr(step) for step in [*found.steps, *found.board]]
        return set(commands), commands, [repr(step.arguments) for step in found.devices]

    first = made(groups)
    shuffle = random.Random(5).shuffle
    for _ in range(20):
        shuffle(groups)
        commands, ordered, devices = made(groups)
        assert commands == first[0] and sorted(devices) == sorted(first[2])
        assert "node-name': 'low'" in next(text for text in ordered if "'low'" in text)
        assert "driver': 'pcie-root-port'" in next(text for text in devices if "'rp'" in text)


def test_what_the_type_is_made_of_is_not_among_the_clients_devices(shims: Shims) -> None:
    """Refusals are QEMU's for what is on its system bus."""
    _, qmp = shims.start(
        "riscv64", "-M", "virt", "-S", "-nodefaults", "-accel", "interp", "-device", "pcie-root-port,id=rp,chassis=1",
        "-device", "virtio-rng-pci",
    )  # fmt: skip
    with qmp:
        def children(path: str) -> set[str]:
            return {row["name"] for row in qmp.execute("qom-list", path=path) if row["type"].startswith("child<")}

        assert children("/machine") == {"peripheral", "peripheral-anon", "unattached"}
        assert (children("/machine/peripheral"), children("/machine/peripheral-anon")) == ({"rp"}, {"device[0]"})
        assert children("/machine/unattached") >= {"virt.cpu0", "virt.uart0", "virt.pci"}
        (cpu,) = qmp.execute("query-cpus-fast")
        assert cpu["qom-path"] == "/machine/unattached/virt.cpu0"
        for name, refusal in (
            ("virt.uart0", "Device 'virt.uart0' not found"),
            ("/machine/unattached/virt.uart0", "Bus 'main-system-bus' does not support hotplugging"),
            (cpu["qom-path"], "Device 'rv64-riscv-cpu' can not be hotplugged on this machine"),
        ):
            with pytest.raises(CommandError) as caught:
                qmp.execute("device_del", id=name)
            assert caught.value.desc == refusal


def test_devices_without_a_bus_take_the_one_that_qemus_take(shims: Shims) -> None:
    _, qmp = shims.start(
        "riscv64", "-M", "virt", "-S", "-nodefaults", "-accel", "interp", "-device", "virtio-rng-device,id=a",
        "-device", "virtio-rng-device,id=b", "-device", "virtio-rng-device,id=c,bus=virtio-mmio-bus.0",
        "-device", "pcie-root-port,id=rp,chassis=1", "-device", "virtio-rng-pci,id=d",
    )  # fmt: skip
    with qmp:
        def bus(name: str) -> str:
            found: str = qmp.execute("qom-get", {"path": f"/machine/peripheral/{name}", "property": "bus"})
            return found.rpartition("/")[2]

        assert [bus(name) for name in "abcd"] == ["virt.virtio7.0", "virt.virtio6.0", "virt.virtio0.0", "pcie.0"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-M", "virt,foo=1"], "Property 'virt-machine.foo' not found"),
        (["-M", "virt", "-cpu", "foo"], "unable to find CPU model 'foo'"),
        (["-M", "virt", "-cpu", "rv64,foo=1"],
         "can't apply global rv64-riscv-cpu.foo=1: Property 'rv64-riscv-cpu.foo' not found"),
        (["-M", "virt", "-smp", "600"], "Invalid SMP CPUs 600. The max CPUs supported by machine 'virt' is 512"),
        (["-M", "virt", "-smp", "0"], "Invalid CPU topology: CPU topology parameters must be greater than zero"),
        (["-M", "virt", "-smp", "foo"], "Parameter 'smp.cpus' expects integer"),
        (["-M", "virt", "-smp", "cpus=1,foo=2"], "Parameter 'smp.foo' is unexpected"),
        (["-M", "virt", "-smp", "2,cores=3"], "Invalid CPU topology: product of the hierarchy must match maxcpus: "
         "sockets (0) * cores (3) * threads (1) != maxcpus (2)"),
        (["-M", "none", "-smp", "2"], "Invalid SMP CPUs 2. The max CPUs supported by machine 'none' is 1"),
        (["-M", "none", "-kernel", "/x"],
         "The -kernel parameter is not supported (use the generic 'loader' device instead)."),
        (["-M", "virt", "-append", "x"], "-append only allowed with -kernel option"),
        (["-M", "virt,memory-backend=foo"], "Memory backend 'foo' not found"),
        (["-M", "virt,memory-backend=a", "-m", "128", "-object", "memory-backend-ram,id=a,size=64M"],
         "Machine memory size does not match the size of the memory backend"),
        (["-M", "none", "-device", "foo"], "-device foo: 'foo' is not a valid device model name"),
        (["-M", "none", "-device", '{"driver":"foo"}'],
         "-device {\"driver\":\"foo\"}: 'foo' is not a valid device model name"),
        (["-M", "none", "-device", "{foo"], "-device {foo: JSON parse error, invalid keyword 'foo'"),
        (["-M", "none", "-device", "id=a"], "-device id=a: Parameter 'driver' is missing"),
        (["-M", "none", "-device", "virtio-rng-device"],
         "-device virtio-rng-device: No 'virtio-bus' bus found for device 'virtio-rng-device'"),
        (["-M", "virt", "-device", "virtio-rng-device,foo=1"],
         "-device virtio-rng-device,foo=1: Property 'virtio-rng-device.foo' not found"),
        (["-M", "none", "-object", "foo,id=a"], "-object foo,id=a: Parameter 'qom-type' does not accept value 'foo'"),
        (["-M", "none", "-object", "memory-backend-ram"], "-object memory-backend-ram: Parameter 'id' is missing"),
        (["-M", "none", "-object", "memory-backend-ram,id=a"],
         "-object memory-backend-ram,id=a: Parameter 'size' is missing"),
        (["-M", "none", "-netdev", "foo,id=x"], "-netdev foo,id=x: Parameter 'type' does not accept value 'foo'"),
        (["-M", "none", "-blockdev", "driver=foo,node-name=x"],
         "-blockdev driver=foo,node-name=x: Parameter 'driver' does not accept value 'foo'"),
        (["-M", "none", "-serial", "foo"], "-serial foo: 'foo' is not a valid char driver\n"
         "qemu-system-riscv64: -serial foo: could not connect serial device to character backend 'foo'"),
        (["-M", "none", "-audiodev", "alsa,id=a"], "-audiodev alsa,id=a: driver must be 'none': there is nothing else here"),
        (["-M", "virt", "-daemonize", "-nographic"], "-nographic cannot be used with -daemonize"),
        (["-M", "virt", "-nodefaults", "-kernel", "/nonexistent/k", "-accel", "interp"],
         "could not load kernel '/nonexistent/k'\nCould not open '/nonexistent/k': No such file or directory"),
        (["-M", "virt", "-nodefaults", "-kernel", "k", "-bios", "/nonexistent/b"],
         'Unable to find the firmware "/nonexistent/b"'),
        (["-M", "virt", "-g", "1x1"], "-g 1x1: Option not supported for this target"),
        (["-M", "none", "-d", "foo"],
         "-d foo: there is no log item 'foo'; there are: guest_errors, invalid_mem, in_asm, unimp"),
        (["-M", "none", "-global", "foo.bar=1", "-device", "foo"], "warning: global foo.bar has invalid class name\n"
         "qemu-system-riscv64: -device foo: 'foo' is not a valid device model name"),
        (["-nodefaults"], "No machine specified, and there is no default\nUse -machine help to list supported machines"),
    ],
)  # fmt: skip
def test_refusals_are_worded_as_qemus(shims: Shims, words: list[str], text: str) -> None:
    done = shims.run("riscv64", *words)
    assert done.stderr == f"qemu-system-riscv64: {text}\n"
    assert done.returncode == 1


def test_a_machine_of_a_file(shims: Shims, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(
        "ratite: 1\n"
        "parameters:\n  size: {type: size, default: 1M, description: RAM}\n"
        "objects:\n"
        "  view: {type: address-space}\n"
        "  ram: {type: memory-backend-ram, size: $(size)}\n"
        + "".join(f"  c{n}: {{type: cpu-cluster, target: {t}, address-space: view, accel: interp}}\n"
                  for n, t in enumerate(TARGETS[:1] + TARGETS[-1:]))
        + "devices:\n  cpu0: {type: microblaze-cpu, cluster: c0}\n  cpu1: {type: rv64-riscv-cpu, cluster: c1}\n"
        "maps:\n  view: {ram: 0x80000000}\n"
    )  # fmt: skip
    _, qmp = shims.start("riscv64", "-M", "hetero,file=two.yaml,size=2M", "-S", "-nodefaults", "-m", "128")
    with qmp:
        assert qmp.execute("query-target") == {"arch": "riscv64"}
        assert qmp.execute("query-memory-size-summary") == {"base-memory": 2 << 20}
        assert [row["target"] for row in qmp.execute("query-cpus-fast")] == [TARGETS[0], TARGETS[-1]]
    done = shims.run("riscv64", "-M", "hetero,file=two.yaml", "-kernel", "x")
    assert done.stderr == (
        "qemu-system-riscv64: The -kernel parameter is not supported: set the property 'kernel' of one of the CPUs "
        "'cpu0', 'cpu1' in the machine file\n"
    )


def test_options_set_what_the_header_of_a_file_names(shims: Shims, tmp_path: Path) -> None:
    image = f"mb_image={ELF / 'hello.s3adsp1800.elf'}"
    words = ["-bios", str(ELF / "echo.rv64.elf"), "-m", "32", "-smp", "3", "-accel", "interp", "-S", "-nodefaults"]
    _, qmp = shims.start("riscv64", "-M", f"hetero,file=managed-virt/simple,{image}", *words)
    with qmp:
        assert qmp.execute("qom-get", path="/objects/rv-ram", property="size") == 32 << 20
        assert [row["target"] for row in qmp.execute("query-cpus-fast")] == ["microblaze", *["riscv64"] * 3]
        accelerator = qmp.execute("qom-get", path="/objects/rv-cluster", property="accel")
        assert accelerator == qmp.execute("qom-get", path="/objects/mb-cluster", property="accel") == "interp"
    _, qmp = shims.start("riscv64", "-M", "hetero,file=managed-virt/simple,ram=48M", *words)
    with qmp:
        assert qmp.execute("qom-get", path="/objects/rv-ram", property="size") == 48 << 20, "what is given by name goes first"
    (tmp_path / "wrong.yaml").write_text("ratite: 1\nmachine-type: {aliases: {bios: cpu9/firmware}}\n")
    done = shims.run("riscv64", "-M", "hetero,file=wrong.yaml", *words)
    assert done.stderr == (
        "qemu-system-riscv64: wrong.yaml: machine-type: 'cpu9/firmware' names nothing in this machine\n"
    )


def test_the_device_tree_instead_of_a_run(shims: Shims, tmp_path: Path) -> None:
    words = ["-M", "virt,dumpdtb=tree.dtb", "-smp", "2", "-nodefaults", "-accel", "interp", "-bios", "none"]
    done = shims.run("riscv64", *words, "-kernel", kernel(tmp_path))
    assert (done.returncode, done.stderr) == (0, "qemu-system-riscv64: dtb dumped to tree.dtb. Exiting.\n")
    tree = (tmp_path / "tree.dtb").read_bytes()
    assert tree.startswith(b"\xd0\x0d\xfe\xed") and b"virtio,mmio" in tree and b"cpu@1" in tree
    (tmp_path / "tree.dtb").unlink()
    done = shims.run("riscv64", *words)
    assert (done.returncode, done.stderr) == (0, "qemu-system-riscv64: dtb dumped to tree.dtb. Exiting.\n"), "nothing boots"
    if dtc := shutil.which("dtc"):
        done = subprocess.run([dtc, "-I", "dtb", tmp_path / "tree.dtb"], capture_output=True, text=True, check=True)
        assert done.stderr == "" and "cpu@1" in done.stdout


def kernel(place: Path) -> str:
    """Something that boots, as far as its head says."""
    head = bytearray(64)
    head[8:16] = (0x200000).to_bytes(8, "little")
    head[16:24] = (0x1000).to_bytes(8, "little")
    head[48:56] = b"RISCV\0\0\0"
    head[56:60] = b"RSC\x05"
    (place / "kernel").write_bytes(bytes(head) + bytes(4096 - 64))
    return str(place / "kernel")


def test_machine_types_of_other_packages(tmp_path: Path) -> None:
    package = tmp_path / "more_machines"
    (package / "types").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it is not imported')\n")
    text = Path(KINDS["none"].origin).read_text().replace("targets: []", "targets: [riscv64]")
    (package / "types" / "mine.yaml").write_text(text.replace("empty machine", "a machine of a plug-in"))
    info = tmp_path / "more_machines-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more-machines\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ratite.machines]\nmore = more_machines\n")
    path = f"{tmp_path}:{Path(__file__).parents[2]}"

    def listed(target: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "ratite.daemon", "-target", target, "-M", "help"], capture_output=True, text=True,
            check=True, env={**os.environ, "PYTHONPATH": path},
        ).stdout  # fmt: skip

    assert "mine                 a machine of a plug-in\n" in listed("riscv64")
    assert "mine" not in listed("microblaze")


def test_log_items_are_properties_of_the_cpus() -> None:
    for words, logged in [(["-d", "unimp,in_asm"], True), (["-d", "unimp"], None), ([], None)]:
        made = board("riscv64", "-M", "virt", "-smp", "2", "-nodefaults", *words)
        assert [given.get("log-code") for given in made.values() if given.get("driver") == "rv64-riscv-cpu"] == [logged] * 2


POWER_OFF = struct.pack("<5I", 0x001002B7, 0x00005337, 0x55530313, 0x0062A023, 0x0000006F)


def with_its_head_below_ram(program: bytes, at: int = 0x8000_0000) -> bytes:
    """What a linker makes that has no script: one segment, from the file's first byte on, a page before the program."""
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, at - 0x1000, at - 0x1000, 0x1000 + len(program), 0x1000 + len(program), 0x1000)
    head = struct.pack("<4s12BHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, *bytes(9), 2, 243, 1, at, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (head + segment).ljust(0x1000, b"\0") + program


@pytest.mark.parametrize("program", [POWER_OFF, with_its_head_below_ram(POWER_OFF)], ids=["raw", "elf"])
@pytest.mark.parametrize("option", ["-kernel", "-bios"])
def test_programs_that_are_linked_to_the_start_of_ram(shims: Shims, program: bytes, option: str) -> None:
    (shims.place / "program").write_bytes(program)
    bios = ("-bios", "none") if option == "-kernel" else ()
    done = shims.run("riscv64", "-M", "virt", "-display", "none", "-accel", "interp", *bios, option, "program")
    assert (done.returncode, done.stderr) == (0, "")


# Hart 1 tells that it is there and jumps to where nothing is; hart 0 waits for it, computes a while, and powers off.
ONE_GOES_ASTRAY = struct.pack(
    "<8I", 0xF14022F3, 0x00001317, 0x02029663, 0x00033383, 0xFE038EE3, 0x00008E37, 0xFFFE0E13, 0xFE0E1EE3
) + POWER_OFF + struct.pack("<2I", 0x00533023, 0x00000067)  # fmt: skip


def test_a_hart_that_goes_astray_stops_no_other(shims: Shims) -> None:
    """On QEMU's board it takes traps for ever."""
    (shims.place / "program").write_bytes(ONE_GOES_ASTRAY)
    words = ["-M", "virt", "-smp", "2", "-bios", "program", "-display", "none", "-accel", "interp"]
    done = shims.run("riscv64", *words)
    assert done.returncode == 0 and "virt.cpu1" in done.stderr and "no instruction can be fetched at 0x0" in done.stderr
    done = shims.run("riscv64", *words, "-action", "panic=exit-failure")
    assert done.returncode == 1


def test_what_books_tell_xv6_to_be_started_with(shims: Shims) -> None:
    (shims.place / "kernel").write_bytes(POWER_OFF)
    (shims.place / "fs.img").write_bytes(bytes(1 << 20))
    words = (
        "-machine virt -bios none -kernel kernel -m 128M -smp 3 -nographic -global virtio-mmio.force-legacy=false "
        "-drive file=fs.img,if=none,format=raw,id=x0 -device virtio-blk-device,drive=x0,bus=virtio-mmio-bus.0"
    )
    done = shims.run("riscv64", *words.split(), "-accel", "interp")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = shims.run("riscv64", *words.replace("=false", "=true").split())
    assert done.returncode == 1 and "must be 'off'" in done.stderr


def test_drives_are_devices_of_these_names(shims: Shims) -> None:
    """QEMU's older commands know a -drive as a device; its node's name is of no interest there."""
    for name in "abc":
        (shims.place / name).write_bytes(bytes(1 << 20))
    words = ["-drive", "file=a,if=none,id=hd0,format=raw", "-device", "virtio-blk-device,drive=hd0,id=d0"]
    words += ["-drive", "file=b,if=none,id=hd1", "-drive", "file=c,if=virtio"]
    _, qmp = shims.start("riscv64", "-M", "virt", "-S", "-nodefaults", "-accel", "interp", *words)
    with qmp:
        rows = qmp.execute("query-block")
        assert [(row["device"], row.get("qdev"), row["removable"]) for row in rows] == [
            ("hd0", "d0", False), ("hd1", None, True), ("virtio0", "/machine/peripheral-anon/device[0]/virtio-backend", False),
        ]  # fmt: skip
        assert [row["device"] for row in qmp.execute("query-blockstats")] == ["hd0", "hd1", "virtio0"]
        qmp.execute("block_resize", device="hd0", size=2 << 20)
        assert qmp.execute("query-block")[0]["inserted"]["image"]["virtual-size"] == 2 << 20
        with pytest.raises(CommandError, match="Cannot find device='d0' nor node-name=''"):
            qmp.execute("block_resize", device="d0", size=1 << 20)
        rates = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        limits = {"bps_wr": 100, "iops_rd": 7, "iops_size": 512, "group": "g"}
        qmp.execute("block_set_io_throttle", {"device": "hd0", **rates, **limits})
        with pytest.raises(CommandError, match="Device 'hd1' not found"):  # nobody's disk has no limits
            qmp.execute("block_set_io_throttle", {"device": "hd1", **rates, "bps_wr": 100})
        assert qmp.execute("human-monitor-command", {"command-line": "info block hd0"}) == (
            "hd0: a (raw)\r\n    Attached to:      d0\r\n    Cache mode:       writeback\r\n"
            "    I/O throttling:   bps=0 bps_rd=0 bps_wr=100 bps_max=0 bps_rd_max=0 bps_wr_max=0"
            " iops=0 iops_rd=7 iops_wr=0 iops_max=0 iops_rd_max=0 iops_wr_max=0 iops_size=512 group=g\r\n"
        )
        assert qmp.execute("human-monitor-command", {"command-line": "block_resize hd1 3M"}) == ""


def test_the_human_monitor_has_a_balloon(shims: Shims) -> None:
    board = ("-M", "virt", "-m", "96", "-S", "-nodefaults", "-accel", "interp")
    _, qmp = shims.start("riscv64", *board, "-device", "virtio-balloon-pci")
    with qmp:
        assert qmp.hmp("info balloon") == "balloon: actual=96\n"
        assert qmp.hmp("balloon 64") == "", "the guest has no driver yet"
        assert qmp.hmp("info balloon") == "balloon: actual=96\n"
        assert qmp.hmp("balloon 0") == "Error: Parameter 'value' expects a size\n"
    _, qmp = shims.start("riscv64", *board)
    with qmp:
        assert qmp.hmp("info balloon") == qmp.hmp("balloon 64") == "Error: No balloon device has been activated\n"


def test_a_pseudo_terminal_is_told(shims: Shims) -> None:
    (shims.place / "kernel").write_bytes(POWER_OFF)
    done = shims.run(
        "riscv64", "-M", "virt", "-bios", "none", "-kernel", "kernel", "-display", "none", "-serial", "pty", "-accel", "interp"
    )
    assert re.fullmatch(r"char device redirected to /dev/pts/\d+ \(label serial0\)\n", done.stdout), done


def test_images_by_short_options() -> None:
    words = ("-hda", "a.img", "-hdb", "b.img", "c.img", "-boot", "c", "-boot", "order=dn,strict=on")
    made = start("riscv64", "-M", "virt", "-bios", "none", *words)
    names = [step.arguments["file"]["filename"] for step in made.steps if step.command == "blockdev-add"]
    assert (names, made.drives) == (["a.img", "b.img", "c.img"], {f"virtio{n}": "virtio" for n in range(3)})
    assert [step.arguments["drive"] for step in made.devices] == ["virtio0", "virtio1", "virtio2"]


@pytest.mark.parametrize(("words", "why"), [
    (("-boot", "zz"), "Invalid boot device 'z'"), (("-boot", "cc"), "Boot device 'c' was given twice"),
    (("-M", "none", "-hda", "a.img"), "machine type does not support if=virtio,bus=0,unit=0"),
])  # fmt: skip
def test_short_options_that_can_not_be(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(CommandLineError, match=re.escape(why)):
        start("riscv64", "-M", "virt", "-bios", "none", *words)
