"""What help prints: lists of what there is, made of the same tables that the commands answer from."""

from __future__ import annotations

from pathlib import Path

import pytest
from personality_kit import Shims

from ratite.core.objects.registry import TypeRegistry
from ratite.daemon.personality.options import OPTIONS


def words(shims: Shims, target: str, *line: str) -> str:
    """What is printed by a start that ends well."""
    done = shims.run(target, *line)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("word", ["help", "?"])
def test_machines(shims: Shims, word: str) -> None:
    assert words(shims, "riscv64", "-M", word).splitlines()[-2:] == [
        "none                 empty machine", "virt                 RISC-V VirtIO board",
    ]  # fmt: skip
    text = words(shims, "microblaze", "-machine", word)
    assert "petalogix-s3adsp1800 PetaLogix linux refdesign for xilinx Spartan 3ADSP1800 (default)\n" in text
    assert "petalogix-ml605      PetaLogix linux refdesign for xilinx ml605 (deprecated)\n" in text


def test_cpus(shims: Shims) -> None:
    text = words(shims, "riscv64", "-cpu", "help")
    assert text.startswith("Available CPUs:\n  max\n  rv64\n") and "rv32" not in text
    assert words(shims, "microblaze", "-cpu", "help") == "Available CPUs:\n  microblaze\n"


def test_devices(shims: Shims) -> None:
    text = words(shims, "riscv64", "-device", "help")
    assert 'name "virtio-blk-device", bus virtio-bus\n' in text
    others = [row.name for row in TypeRegistry().types("cpu", abstract=False) if "riscv64" not in row.data["targets"]]
    assert others and not any(f'"{name}"' in text for name in others)
    lines = words(shims, "riscv64", "-device", "virtio-blk-device,help").splitlines()
    assert lines[0] == "virtio-blk-device options:"
    assert any(line.startswith("  drive=<link<block-node>>") for line in lines)
    done = shims.run("riscv64", "-device", "foo,help")
    assert (done.returncode, done.stderr) == (1, "qemu-system-riscv64: -device foo,help: Device 'foo' not found\n")


def test_objects_and_backends(shims: Shims) -> None:
    text = words(shims, "riscv64", "-object", "help")
    assert text.startswith("List of user creatable objects:\n") and "  memory-backend-ram\n" in text
    assert "address-space" not in text  # ratite's own
    assert "  size=<size>" in words(shims, "riscv64", "-object", "memory-backend-ram,help")
    assert "  ringbuf\n" in words(shims, "riscv64", "-chardev", "help")
    assert "\nuser\n" in words(shims, "riscv64", "-netdev", "help") == words(shims, "riscv64", "-nic", "help")
    assert words(shims, "riscv64", "-accel", "help").startswith("Accelerators supported in QEMU binary:\ntcg\n")
    assert "guest_errors    " in words(shims, "riscv64", "-d", "help")
    assert "  cores=<num>\n" in words(shims, "riscv64", "-smp", "help")


def test_version_and_help(shims: Shims) -> None:
    text = words(shims, "riscv64", "-version")
    assert text.startswith("QEMU emulator version 10.0.2 (ratite ")
    whole = words(shims, "riscv64", "-h")
    assert whole.startswith(text) and "usage: qemu-system-riscv64 [options]" in whole
    for option in OPTIONS:
        assert f"-{option.key} " in whole or f"-{option.key}\n" in whole, option.key


def test_every_option_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    missing = [option.key for option in OPTIONS if f"`-{option.key}" not in text]
    assert not missing


def test_messages_begin_as_msg_says(shims: Shims) -> None:
    done = shims.run("riscv64", "-M", "none", "-msg", "timestamp=on,guest-name=on", "-name", "foo", "-device", "foo")
    head, _, rest = done.stderr.partition(" ")
    assert rest == "foo qemu-system-riscv64: -device foo: 'foo' is not a valid device model name\n"
    assert len(head) == len("2026-01-01T00:00:00.000000Z") and head.endswith("Z")


def test_options_from_a_file(shims: Shims, tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text('# a machine\n[machine]\n  type = "virt"\n[memory]\n  size = "64M"\n\n[chardev "c"]\n  backend = "null"\n')
    _, qmp = shims.start("riscv64", "-readconfig", str(file), "-S", "-nodefaults", "-accel", "interp")
    with qmp:
        assert qmp.execute("query-memory-size-summary") == {"base-memory": 64 << 20}
        assert "c" in [row["label"] for row in qmp.execute("query-chardev")]
    file.write_text('[machine]\ntype = "none"\n[device "a"]\ndriver = "foo"\n')
    done = shims.run("riscv64", "-readconfig", str(file))
    assert done.stderr == f"qemu-system-riscv64:{file}:3: 'foo' is not a valid device model name\n"
    for text, wrong in [
        ('[foo]\n', "There is no option group 'foo'"), ('a = "b"\n', "line 1: no group defined"),
        ("[device]\na = b\n", "line 2: parse error"),
    ]:  # fmt: skip
        file.write_text(text)
        done = shims.run("riscv64", "-readconfig", str(file))
        assert done.stderr == f"qemu-system-riscv64: -readconfig {file}: {wrong}\n"


def test_actions(shims: Shims) -> None:
    done = shims.run("riscv64", "-M", "none", "-action", "reboot=foo")
    assert done.stderr == (
        "qemu-system-riscv64: -action reboot=foo: Parameter 'reboot' does not accept value 'foo'\n"
    )
    done = shims.run("riscv64", "-M", "none", "-run-with", "user=no-such-user")
    assert "User \"no-such-user\" doesn't exist (and is not <uid>:<gid>)" in done.stderr
