"""CPU models as query-cpu-definitions and query-cpu-model-expansion tell them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess
from ratite.targets.riscv.csrs import misa
from ratite.targets.riscv.features import Features


@pytest.fixture(scope="module")
def qmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A monitor of a daemon with a machine of two targets."""
    with DaemonProcess(str(tmp_path_factory.mktemp("models") / "qmp")) as daemon, daemon.client() as client:
        client.execute("machine-create")
        for target in ("riscv64", "riscv32"):
            client.execute("object-add", {"qom-type": "cpu-cluster", "id": f"c-{target}", "target": target,
                                          "address-space": "s"})  # fmt: skip
        yield client


def expand(qmp: Client, name: str, target: str = "riscv64", **props: object) -> dict[str, bool]:
    model = {"name": name, **({"props": props} if props else {})}
    answer = qmp.execute("query-cpu-model-expansion", type="full", model=model, target=target)
    assert set(answer) == {"model"} and answer["model"]["name"] == name
    return answer["model"]["props"]


def test_definitions(qmp: Client) -> None:
    wide = {row["name"]: row for row in qmp.execute("query-cpu-definitions", target="riscv64")}
    narrow = {row["name"]: row for row in qmp.execute("query-cpu-definitions", target="riscv32")}
    assert wide["rv64"] == {"name": "rv64", "typename": "rv64-riscv-cpu", "static": False, "deprecated": False}
    assert "rv32" in narrow and "rv32" not in wide and "rv64" not in narrow


def test_every_model_expands(qmp: Client) -> None:
    for target in ("riscv64", "riscv32"):
        for row in qmp.execute("query-cpu-definitions", target=target):
            props = expand(qmp, row["name"], target)
            assert all(isinstance(value, bool) for value in props.values())
            assert {"m", "a", "c", "zba", "sstc", "pmp"} <= set(props)


def test_properties_are_laid_over(qmp: Client) -> None:
    plain = expand(qmp, "rv64")
    assert plain["zba"] and not plain["zicond"]
    assert expand(qmp, "rv64", zba=False, zicond=True) == {**plain, "zba": False, "zicond": True}


@pytest.mark.parametrize(("model", "text"), [
    ({"name": "nothing"}, "The CPU type 'nothing' is not a CPU model of target 'riscv64'"),
    ({"name": "rv32"}, "The CPU type 'rv32' is not a CPU model of target 'riscv64'"),
    ({"name": "rv64", "props": {"zzz": True}}, r"Property 'rv64-riscv-cpu\.zzz' not found"),
    ({"name": "rv64", "props": {"hartid": True}}, r"Property 'rv64-riscv-cpu\.hartid' not found"),
    ({"name": "rv64", "props": {"zba": 1}}, "Invalid parameter type for 'model.props.zba', expected: boolean"),
    ({"name": "rv64", "props": [1]}, "Invalid parameter type for 'model.props', expected: object"),
    ({"name": "rv64", "props": {"u": False}}, "extension 's' needs 'u'"),
])
def test_what_is_refused(qmp: Client, model: dict[str, object], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        qmp.execute("query-cpu-model-expansion", type="full", model=model, target="riscv64")


def test_static_expansion_is_not_made(qmp: Client) -> None:
    """As QEMU's RISC-V targets answer."""
    with pytest.raises(CommandError, match="The requested expansion type is not supported"):
        qmp.execute("query-cpu-model-expansion", type="static", model={"name": "rv64"}, target="riscv64")


#: (target, model): misa and the registers that QEMU 10.0.2 answers with (-M virt, a program that reads them), and features
#: of query-cpu-model-expansion there; misa without H
PEER = {
    ("riscv64", "rv64"): (0x800000000014112F, "mmu pmp sstc svadu zba zbb zbs zicbom zicboz zicntr zicsr zifencei"),
    ("riscv32", "rv32"): (0x4014112F, "mmu pmp sstc svadu zba zbb zbs zicbom zicboz zicntr zicsr zifencei"),
    ("riscv64", "rv64i"): (0x8000000000000100, ""),
    ("riscv32", "rv32i"): (0x40000100, ""),
    ("riscv32", "sifive-e31"): (0x40101105, "pmp zicntr zicsr zifencei"),
    ("riscv32", "sifive-e34"): (0x40101125, "pmp zicntr zicsr zifencei"),
    ("riscv64", "sifive-e51"): (0x8000000000101105, "pmp zicntr zicsr zifencei"),
    ("riscv32", "sifive-u34"): (0x4014112D, "mmu pmp zicntr zicsr zifencei"),
    ("riscv64", "sifive-u54"): (0x800000000014112D, "mmu pmp zicntr zicsr zifencei"),
    ("riscv64", "shakti-c"): (0x800000000014112D, "mmu pmp zicntr zicsr zifencei"),
}


@pytest.mark.parametrize(("target", "name"), PEER)
def test_models_are_what_they_are_elsewhere(qmp: Client, target: str, name: str) -> None:
    want, listed = PEER[target, name]
    props = expand(qmp, name, target)
    several = {key for key, value in props.items() if value and len(key) > 1 and not key.startswith(("sv3", "sv4", "sv5"))}
    assert several == set(listed.split())
    assert misa(Features({**props, "word-size": int(target[-2:])})) == want


def test_max_has_everything(qmp: Client) -> None:
    for target in ("riscv64", "riscv32"):
        props = expand(qmp, "max", target)
        assert [name for name, value in props.items() if not value] == ["svade"]


def test_a_chip_never_changes(qmp: Client) -> None:
    rows = qmp.execute("query-cpu-definitions", target="riscv64")
    assert {row["name"] for row in rows if not row["static"]} == {"rv64", "max"}
