"""CPU models as query-cpu-definitions and query-cpu-model-expansion tell them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratite.clients.qmp import Client, CommandError, DaemonProcess


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
    ({"name": "rv64", "props": {"zba": 1}}, "Invalid parameter type for 'zba', expected: boolean"),
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
