"""What machines of control clients may open of the host, how much they may take, and machines from files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_kit import ControlProcess, refused

from ratite.clients.control import ControlClient, RpcError
from ratite.core.hostfiles import FREE, ConfinedFiles, open_root
from ratite.daemon.control import rpc
from ratite.qapi.errors import GenericError

both = pytest.mark.parametrize("in_process", [False, True], ids=["process", "in-process"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/ and out/, and beside them what nobody may reach."""
    place = tmp_path_factory.mktemp("folders")
    for name in ("in", "out", "in/sub"):
        (place / name).mkdir()
    (place / "secret").write_bytes(b"secret" * 1000)
    (place / "in/disk").write_bytes(bytes(4096))
    (place / "in/sub/inside").symlink_to("../disk")
    (place / "in/outside").symlink_to("../secret")
    (place / "in/absolute").symlink_to(place / "secret")
    (place / "out/dangling").symlink_to("../made")
    return place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Iterator[ControlProcess]:
    """With two directories and limits."""
    options = ["--allow-dir", f"in={folders}/in", "--allow-dir", f"out={folders}/out:rw"]
    options += ["--limit", "ram=64M", "--limit", "vcpus=2"]
    with ControlProcess(tmp_path_factory.mktemp("control") / "sock", *options) as process:
        yield process


@pytest.fixture(params=[False, True], ids=["process", "in-process"])
def qmp(control: ControlClient, request: pytest.FixtureRequest) -> Callable[..., object]:
    """QMP of an instance with a machine."""
    control.instance_create(instance="m", in_process=request.param)

    def execute(command: str, **arguments: object) -> object:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        return control.instance_qmp(instance="m", execute=command, arguments=given)

    execute("machine-create")
    return execute


def blockdev(qmp: Callable[..., object], filename: str, name: str = "b", read_only: bool = True) -> None:
    qmp("blockdev-add", driver="file", node_name=name, filename=filename, read_only=read_only)


def test_files_below_the_directories(qmp: Callable[..., object], folders: Path) -> None:
    blockdev(qmp, "in/disk", "b1")
    blockdev(qmp, f"{folders}/in/disk", "b2")
    blockdev(qmp, "in/sub/inside", "b3")
    blockdev(qmp, "in/sub/../disk", "b4")
    qmp("chardev-add", id="f", backend={"type": "file", "data": {"out": "out/log"}})
    assert (folders / "out/log").exists()
    qmp("chardev-add", id="s", backend={"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "out/s"}}}})
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(folders / "out/s"))
    qmp("chardev-add", id="c", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": "out/s"}}, "server": False}})  # fmt: skip
    qmp("chardev-remove", id="s")
    assert not (folders / "out/s").exists()
    qmp("object-add", qom_type="rng-random", id="r")


@pytest.mark.parametrize(
    "name",
    ["secret", "../secret", "/etc/passwd", "in/../secret", "in/../../etc/passwd", "in/outside", "in/absolute", "nope/disk", "",
     "in//../secret", "./in/disk", "in", "/proc/self/environ", "in/disk/x", "in/\0", "{place}/secret", "{place}/in/../secret",
     "{place}/inn", "/dev/zero", "~/x"],
)  # fmt: skip
def test_path_tricks(qmp: Callable[..., object], folders: Path, name: str) -> None:
    with pytest.raises(RpcError) as error:
        blockdev(qmp, name.replace("{place}", str(folders)))
    assert error.value.code == rpc.QMP_ERROR


def test_writing_needs_a_writable_directory(qmp: Callable[..., object], folders: Path) -> None:
    with pytest.raises(RpcError, match="for reading only"):
        blockdev(qmp, "in/disk", read_only=False)
    for out in ("in/log", "out/../made", "out/dangling", str(folders / "made"), "out/nope/x"):
        with pytest.raises(RpcError, match="Could not open"):
            qmp("chardev-add", id="f", backend={"type": "file", "data": {"out": out}})
    for path in ("in/s", "out/../s", str(folders / "s"), "out/"):
        with pytest.raises(RpcError, match="Failed to bind"):
            qmp("chardev-add", id="s", backend={"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": path}}}})
    assert {path.name for path in folders.iterdir()} == {"in", "out", "secret"}
    # Whoever listens at a socket would be told what the machine says.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folders / "in/ear"))
        listener.listen()
        address = {"addr": {"type": "unix", "data": {"path": "in/ear"}}, "server": False}
        with pytest.raises(RpcError, match="for reading only"):
            qmp("chardev-add", id="c", backend={"type": "socket", "data": address})
    (folders / "in/ear").unlink()


def test_whatever_names_a_file_obeys(qmp: Callable[..., object], folders: Path) -> None:
    qmp("object-add", qom_type="address-space", id="view")
    qmp("object-add", qom_type="memory-backend-ram", id="ram", size=1 << 20)
    qmp("map-region", space="view", region="ram", offset=1 << 31)
    qmp("object-add", qom_type="cpu-cluster", id="c", target="riscv64", address_space="view", accel="interp")
    secret = str(folders / "secret")
    with pytest.raises(RpcError, match="Could not open"):
        qmp("object-add", qom_type="rng-random", id="r", filename=secret)
    for name in ("image", "image-raw", "kernel", "firmware", "initrd", "dtb"):
        more = {"firmware": "in/disk"} if name in ("initrd", "dtb") else {}
        qmp("device_add", driver="rv64-riscv-cpu", id="cpu", cluster="c", **{name: secret, **more})
        with pytest.raises(RpcError, match="allowed directory"):
            qmp("x-exit-preconfig")
        qmp("device_del", id="cpu")
    qmp("object-add", qom_type="memory-backend-file", id="mf", size=4096, mem_path=str(folders / "mem"))
    with pytest.raises(RpcError, match="allowed directory"):
        qmp("x-exit-preconfig")
    qmp("object-del", id="mf")
    qmp("object-add", qom_type="memory-backend-file", id="mf", size=4096, mem_path="out/mem")
    qmp("object-add", qom_type="memory-backend-file", id="nameless", size=4096, mem_path="out")
    qmp("device_add", driver="rv64-riscv-cpu", id="cpu", cluster="c", image_raw="in/disk", image_addr=1 << 31)
    qmp("x-exit-preconfig")
    assert (folders / "out/mem").stat().st_size == 4096
    for name in (secret, "in/x", "out/../x"):
        with pytest.raises(RpcError, match="Could not open"):
            qmp("pmemsave", val=1 << 31, size=16, filename=name)
    qmp("pmemsave", val=1 << 31, size=16, filename="out/saved")
    assert (folders / "out/saved").stat().st_size == 16
    assert (folders / "secret").read_bytes() == b"secret" * 1000


def test_permissions(qmp: Callable[..., object]) -> None:
    def inet(kind: str) -> dict[str, object]:
        return {"type": kind, "data": {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}}}

    for backend in ({"type": "pty", "data": {}}, {"type": "stdio", "data": {}}, inet("socket")):
        with pytest.raises(RpcError, match="not permitted"):
            qmp("chardev-add", id="p", backend=backend)
    with pytest.raises(RpcError, match="not permitted"):
        qmp("netdev_add", id="n", type="user")
    with pytest.raises(RpcError, match="not permitted"):
        qmp("netdev_add", id="n", type="stream", addr={"type": "inet", "host": "127.0.0.1", "port": "1"})


def test_a_permission_that_is_given(start: Callable[..., ControlProcess]) -> None:
    with start("--permit", "pty").client() as client:
        assert client.control_info()["permissions"] == ["pty"]
        client.instance_create(instance="m")
        client.instance_qmp(instance="m", execute="machine-create")
        backend = {"id": "p", "backend": {"type": "pty", "data": {}}}
        made = client.instance_qmp(instance="m", execute="chardev-add", arguments=backend)
        assert os.path.exists(made["pty"])


# -- limits


def test_guest_memory_and_cpus_are_limited_before_they_are_made(qmp: Callable[..., object]) -> None:
    qmp("object-add", qom_type="memory-backend-ram", id="a", size=48 << 20)
    with pytest.raises(RpcError, match="limit 'ram'"):
        qmp("object-add", qom_type="memory-backend-ram", id="b", size=32 << 20)
    qmp("object-add", qom_type="memory-backend-ram", id="b", size=16 << 20)
    qmp("object-add", qom_type="address-space", id="view")
    qmp("object-add", qom_type="cpu-cluster", id="c", target="riscv64", address_space="view")
    for number in range(2):
        qmp("device_add", driver="rv64-riscv-cpu", id=f"cpu{number}", cluster="c")
    with pytest.raises(RpcError, match="limit 'vcpus'"):
        qmp("device_add", driver="rv64-riscv-cpu", id="cpu2", cluster="c")


def test_limits_of_one_instance(control: ControlClient) -> None:
    assert refused(control, "instance-create", limits={"ram": 65 << 20}).code == rpc.LIMIT_EXCEEDED
    made = control.instance_create(instance="small", limits={"vcpus": 1, "files": 40})
    limits = Path(f"/proc/{made['pid']}/limits").read_text()
    assert any(line.split()[:4] == ["Max", "open", "files", "40"] for line in limits.splitlines())
    assert control.instance_inspect(instance="small")["limits"]["vcpus"] == 1


def test_the_number_of_instances(start: Callable[..., ControlProcess]) -> None:
    with start("--limit", "instances=1").client() as client:
        client.instance_create(instance="one")
        assert refused(client, "instance-create").code == rpc.LIMIT_EXCEEDED
        client.instance_end(instance="one")
        client.instance_create()


@pytest.mark.parametrize(
    "options",
    [["--limit", "ram"], ["--limit", "nope=1"], ["--limit", "ram=1X"], ["--permit", "all"], ["--allow-dir", "x"],
     ["--allow-dir", "x=/nope/nope"], ["--allow-dir", "a=/", "--allow-dir", "a=/tmp"], ["--allow-dir", "1=/"],
     ["--limit", "files=1"]],
)  # fmt: skip
def test_wrong_options(tmp_path: Path, options: list[str]) -> None:
    status, said = ControlProcess(tmp_path / "sock", *options).stopped()
    assert status == 1 and options[0] in said and "Traceback" not in said


# -- without a daemon


def test_confined_files_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    root = open_root("d", str(tmp_path / "d"), True)
    files = ConfinedFiles([root], ["net"])
    os.close(files.open("d/x", os.O_WRONLY | os.O_CREAT, 0o600))
    assert files.stat("d/x").st_mode == FREE.stat(str(tmp_path / "d/x")).st_mode
    files.unlink("d/x")
    assert not (tmp_path / "d/x").exists()
    files.need("net", "x")
    with pytest.raises(GenericError, match="--permit exec"):
        files.need("exec", "x")
    (tmp_path / "d").rename(tmp_path / "moved")
    os.close(files.open("d/y", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "moved/y").exists(), "the directory is what was opened, not its name"
    os.close(root.fd)


# -- a guest that ends


@pytest.mark.parametrize(("stays", "reason"), [(False, "shutdown"), (True, "ended")])
def test_a_guest_that_shuts_down(control: ControlClient, folders: Path, stays: bool, reason: str) -> None:
    # lui t0, 0x100; lui t1, 5; addi t1, t1, 0x555; sw t1, (t0): the finisher's "pass"
    words = (0x001002B7, 0x00005337, 0x55530313, 0x0062A023)
    (folders / "in/off").write_bytes(b"".join(word.to_bytes(4, "little") for word in words))
    control.instance_subscribe(events=["SHUTDOWN", "INSTANCE_ENDED"])
    control.instance_create(instance="off", no_shutdown=stays)
    for execute, arguments in (
        ("machine-create", {}),
        ("object-add", {"qom-type": "address-space", "id": "view"}),
        ("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20}),
        ("object-add", {"qom-type": "cpu-cluster", "id": "c", "target": "riscv64", "address-space": "view", "accel": "interp"}),
        ("device_add", {"driver": "rv64-riscv-cpu", "id": "cpu", "cluster": "c", "image-raw": "in/off", "image-addr": 1 << 31}),
        ("device_add", {"driver": "riscv.sifive.test", "id": "finisher"}),
        ("map-region", {"space": "view", "region": "ram", "offset": 1 << 31}),
        ("map-region", {"space": "view", "region": "finisher", "offset": 0x100000}),
        ("x-exit-preconfig", {}),
    ):
        control.instance_qmp(instance="off", execute=execute, arguments=arguments)
    assert control.wait_event("SHUTDOWN")["data"]["guest"] is True
    if stays:
        control.instance_end(instance="off")
    assert control.wait_event("INSTANCE_ENDED")["data"]["reason"] == reason


# -- machine files


def test_a_machine_from_a_file(control: ControlClient) -> None:
    text = "ratite: 1\nobjects:\n  view: {type: address-space}\n"
    made = control.instance_create(instance="filed", file=text, paused=True)
    assert made["instance"] == "filed"
    assert control.instance_inspect(instance="filed")["phase"] in ("ready", "running")


def test_a_wrong_machine_file_leaves_no_instance(control: ControlClient) -> None:
    error = refused(control, "instance-create", instance="wrong", file="nope: 1\nmore: [")
    assert error.code == rpc.BAD_MACHINE_FILE and error.data[0]["line"] >= 1
    assert refused(control, "instance-create", instance="wrong", file="a: 1", set=5).code == rpc.INVALID_PARAMS
    assert control.instance_list() == []
