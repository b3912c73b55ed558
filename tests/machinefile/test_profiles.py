"""The profiles that come with ratite: each compiles, assembles and is found; what was published stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ratite.clients.qmp import Client, DaemonProcess
from ratite.qapi import machinefile as mf
from ratite.qapi.errors import GenericError
from ratite.qapi.machinefile import files
from ratite.qapi.machinefile.compile import Compiler

PROFILES = [profile.full_name for profile in files.profiles()]
REFERENCE = ("duo", "managed-virt", "riscv-virt")


def test_each_reference_machine_has_all_three() -> None:
    names = {profile.name for profile in files.profiles()}
    assert {f"{machine}/{kind}" for machine in REFERENCE for kind in ("minimal", "recommended", "simple")} <= names


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_says_what_it_is(name: str, compiler: Compiler) -> None:
    made = compiler.compile_named(name, {}, files.read)
    assert made.name == name
    assert made.description
    assert all(parameter.text for parameter in made.parameters.values())
    assert {"console", "accel"} <= made.parameters.keys()
    assert made.consoles
    assert mf.summary_of(name, files.profile(name).path.read_text()) == (made.description, made.parameters)
    assert files.profile(name.partition("@")[0]).newest


@pytest.fixture
def qmp(tmp_path: Path) -> Iterator[Client]:
    """A daemon that starts no machine by itself."""
    with DaemonProcess(tmp_path / "qmp", "--paused") as daemon, Client.connect(daemon.address, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_machine(name: str, compiler: Compiler, qmp: Client, tmp_path: Path) -> None:
    """With everything that it can have."""
    arguments: dict[str, Any] = {"accel": "interp", "disk": str(tmp_path / "disk"), "harts": "3"}
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    known = compiler.compile_named(name, {}, files.read).parameters
    made = compiler.compile_named(name, {key: arguments[key] for key in arguments.keys() & known.keys()}, files.read)
    for command, given in made.commands:
        qmp.execute(command, given)
    assert qmp.execute("query-machine-phase") == {"phase": "ready"}
    assert bool(qmp.execute("query-block")) == ("disk" in known)


def test_names_that_are_no_profile() -> None:
    with pytest.raises(
        GenericError, match=r"there is no profile 'riscv-virt/recomended' \(did you mean 'riscv-virt/recommended'\?\)"
    ):
        files.read("profile", "riscv-virt/recomended", "")
    for name in ("riscv-virt/minimal@2", "../riscv-virt/minimal@1", "riscv-virt/../duo/minimal", ""):
        with pytest.raises(GenericError, match="there is no profile"):
            files.read("profile", name, "")


def test_a_plug_ins_profiles_are_found_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "boards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ratite.machines]\nboards = boards\n")
    (tmp_path / "boards" / "mine").mkdir(parents=True)
    (tmp_path / "boards" / "__init__.py").write_text("raise SystemExit('must not be imported')\n")
    text = "ratite: 1\ninclude: [{profile: riscv-virt/minimal, with: {ram: %s}}]\n"
    (tmp_path / "boards" / "mine" / "small@1.yaml").write_text(text % "1M")
    (tmp_path / "boards" / "mine" / "small@12.yaml").write_text(text % "12M")
    (tmp_path / "boards" / "mine" / "Not a profile.yaml").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {profile.full_name: profile.newest for profile in files.profiles() if profile.name == "mine/small"}
    assert found == {"mine/small@1": False, "mine/small@12": True}
    made = Compiler(files.declarations()).compile_named("mine/small", {}, files.read)
    assert {"qom-type": "memory-backend-ram", "id": "ram", "size": 12 << 20} in [arguments for _, arguments in made.commands]


def test_files_are_read_beside_the_one_that_includes_them(tmp_path: Path, compiler: Compiler) -> None:
    (tmp_path / "boards").mkdir()
    (tmp_path / "top.yaml").write_text("ratite: 1\ninclude: [{file: boards/a.yaml}]\n")
    (tmp_path / "boards" / "a.yaml").write_text("ratite: 1\ninclude: [{file: b.yaml}]\n")
    (tmp_path / "boards" / "b.yaml").write_text("ratite: 1\nobjects: {b: {type: address-space}}\n")
    made = compiler.compile_named(str(tmp_path / "top.yaml"), {}, files.read)
    assert [arguments["id"] for command, arguments in made.commands if command == "object-add"] == ["b"]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "can't be read: No such file or directory"), (b"\xff\xfe", "it isn't text in UTF-8")]
)
def test_files_that_cant_be_read(tmp_path: Path, compiler: Compiler, content: bytes | None, message: str) -> None:
    path = tmp_path / "top.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GenericError) as caught:
        compiler.compile_named(str(path), {}, files.read)
    assert str(caught.value) == f"{path}: {message}"


def test_a_daemon_imports_nothing_of_it() -> None:
    """What a start of ratited imports, and a machine's assembly; only a dump may need more."""
    code = (
        "import sys\n"
        "import ratite.daemon.main, ratite.daemon.daemon, ratite.core.machine, ratite.daemon.commands as c\n"
        "import json; print(json.dumps(sorted(sys.modules)))\n"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {"yaml", "jsonschema", "ratite.qapi.machinefile", "ratite.daemon.personality"} & set(loaded)
