"""Instances: made, used, watched and ended; what becomes of the others when one dies."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from control_kit import ControlProcess, gone, refused, threads

from ratite.clients.control import AsyncControlClient, ControlClient, RpcError
from ratite.daemon.control import rpc

Start = Callable[..., ControlProcess]
both = pytest.mark.parametrize("in_process", [False, True], ids=["process", "in-process"])


@both
def test_life_of_an_instance(shared: ControlProcess, control: ControlClient, in_process: bool) -> None:
    control.instance_subscribe()
    made = control.instance_create(instance="one", in_process=in_process)
    assert made["state"] == "running" and made["in-process"] is in_process
    assert (made["pid"] == shared.process.pid) is in_process
    assert control.wait_event("INSTANCE_CREATED")["data"] == made
    assert control.instance_list() == [made]
    assert control.instance_qmp(instance="one", execute="query-name") == {"name": "one"}
    control.instance_qmp(instance="one", execute="machine-create")
    details = control.instance_inspect(instance="one")
    assert details["phase"] == "created" and details["status"] == "prelaunch" and details["subscribers"] == 1
    assert ("private-memory" in details) is not in_process
    how = control.instance_end(instance="one")
    assert how["reason"] == "ended" and how["status"] == 0
    assert control.wait_event("INSTANCE_ENDED")["data"]["reason"] == "ended"
    assert refused(control, "instance-inspect", instance="one").code == rpc.NO_INSTANCE
    assert in_process or gone(made["pid"])


def test_names(control: ControlClient) -> None:
    first, second = control.instance_create(), control.instance_create()
    assert first["instance"] != second["instance"]
    assert refused(control, "instance-create", instance=first["instance"]).code == rpc.INSTANCE_EXISTS
    for bad in ("", "1a", "a/b", "a" * 65, "a b", "../x"):
        assert refused(control, "instance-create", instance=bad).code == rpc.INVALID_PARAMS


@both
def test_quit_and_the_errors_of_qmp(control: ControlClient, in_process: bool) -> None:
    control.instance_subscribe()
    control.instance_create(instance="q", in_process=in_process)
    error = refused(control, "instance-qmp", instance="q", execute="nope")
    assert (error.code, error.data) == (rpc.QMP_ERROR, {"class": "CommandNotFound", "desc": error.message})
    assert refused(control, "instance-qmp", instance="q", execute="stop", arguments=[1]).code == rpc.INVALID_PARAMS
    assert control.instance_qmp(instance="q", execute="quit") == {}
    assert control.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
    assert control.wait_event("INSTANCE_ENDED")["data"]["reason"] == "quit"


def test_a_crash_is_an_event_and_nobody_elses_end(control: ControlClient) -> None:
    control.instance_subscribe(events=["INSTANCE_ENDED"])
    victim = control.instance_create(instance="victim")
    control.instance_create(instance="other")
    os.kill(victim["pid"], signal.SIGSEGV)
    how = control.wait_event("INSTANCE_ENDED")["data"]
    assert (how["instance"], how["reason"], how["signal"]) == ("victim", "crashed", signal.SIGSEGV)
    assert control.instance_qmp(instance="other", execute="query-status")["status"] == "prelaunch"


def test_force_kills_and_a_call_under_way_hears_of_it(shared: ControlProcess, control: ControlClient) -> None:
    made = control.instance_create(instance="f")
    control.instance_qmp(instance="f", execute="query-status")
    os.kill(made["pid"], signal.SIGSTOP)
    number = control.send("instance-qmp", {"instance": "f", "execute": "query-status"})
    with shared.client() as other:
        how = other.instance_end(instance="f", force=True)
    assert (how["reason"], how["signal"]) == ("killed", signal.SIGKILL)
    with pytest.raises(RpcError) as error:
        control.result(number)
    assert error.value.code == rpc.INSTANCE_GONE


def test_two_clients_that_end_the_same_instance_get_the_same_answer(shared: ControlProcess) -> None:
    async def both_end() -> None:
        async with (
            await AsyncControlClient.connect(shared.address) as one,
            await AsyncControlClient.connect(shared.address) as two,
        ):
            await one.instance_create(instance="same")
            await one.instance_create(instance="bystander")
            first, second = await asyncio.gather(one.instance_end(instance="same"), two.instance_end(instance="same"))
            assert first == second and first["reason"] == "ended"
            with pytest.raises(RpcError) as third:
                await two.instance_end(instance="same")
            assert third.value.code == rpc.NO_INSTANCE
            assert await one.instance_qmp(instance="bystander", execute="query-name") == {"name": "bystander"}
            await one.instance_end(instance="bystander")

    asyncio.run(both_end())


def test_each_websocket_has_its_own_monitor_and_posts_share_one(shared: ControlProcess, control: ControlClient) -> None:
    control.instance_create(instance="m")
    control.instance_qmp(instance="m", execute="view-select", arguments={"personality": "qemu"})
    assert refused(control, "instance-qmp", instance="m", execute="query-view").data["class"] == "CommandNotFound"
    with shared.client() as other:
        assert other.instance_qmp(instance="m", execute="query-view")["personality"] == "ratite"

    def post(execute: str) -> dict[str, object]:
        params = {"instance": "m", "execute": execute}
        answer: dict[str, object] = shared.post({"jsonrpc": "2.0", "id": 1, "method": "instance-qmp", "params": params})
        return answer

    assert post("query-view")["result"]
    assert post("view-select")["error"]["code"] == rpc.NOT_PERMITTED  # type: ignore[index]


def test_commands_of_a_connection_are_executed_in_order(shared: ControlProcess) -> None:
    async def pipeline() -> None:
        async with await AsyncControlClient.connect(shared.address) as client:
            await client.instance_create(instance="o")
            names = ["machine-create", *["query-machine-phase"] * 20]
            answers = await asyncio.gather(*(client.instance_qmp(instance="o", execute=name) for name in names))
            assert {answer["phase"] for answer in answers[1:]} == {"created"}
            await client.instance_end(instance="o")

    asyncio.run(pipeline())


def test_a_call_can_be_cancelled(control: ControlClient) -> None:
    made = control.instance_create(instance="c")
    control.instance_qmp(instance="c", execute="query-status")
    os.kill(made["pid"], signal.SIGSTOP)
    number = control.send("instance-qmp", {"instance": "c", "execute": "query-status"})
    assert control.request_cancel(id=number) == {"cancelled": True}
    assert control.request_cancel(id=number) == {"cancelled": False}
    assert control.call("request-cancel", {"id": None}) == {"cancelled": False}
    os.kill(made["pid"], signal.SIGCONT)
    assert control.instance_qmp(instance="c", execute="query-name") == {"name": "c"}


def test_a_cancelled_call_is_answered(control: ControlClient) -> None:
    made = control.instance_create(instance="c2")
    os.kill(made["pid"], signal.SIGSTOP)
    number = control.send("instance-qmp", {"instance": "c2", "execute": "query-status"})
    assert control.call("request-cancel", {"id": number})["cancelled"]
    with pytest.raises(RpcError) as error:
        control.result(number)
    assert error.value.code == rpc.CANCELLED


def test_subscriptions_filter(control: ControlClient) -> None:
    control.instance_create(instance="s1")
    control.instance_create(instance="s2")
    mine = control.instance_subscribe(instance="s1", events=["VIEW_CHANGED", "SHUTDOWN"])["subscription"]
    everything = control.instance_subscribe()["subscription"]
    control.instance_end(instance="s2")
    control.instance_end(instance="s1")
    seen = [control.wait_event("SHUTDOWN"), control.wait_event("SHUTDOWN")]
    assert [(event["instance"], event["subscriptions"]) for event in seen] == [("s2", [everything]), ("s1", [mine, everything])]
    control.instance_unsubscribe(subscription=mine)
    assert refused(control, "instance-unsubscribe", subscription=mine).code == rpc.NOT_FOUND
    assert refused(control, "instance-subscribe", instance="s1").code == rpc.NO_INSTANCE


@both
def test_consoles(shared: ControlProcess, control: ControlClient, in_process: bool) -> None:
    control.instance_create(instance="con", in_process=in_process)

    def qmp(execute: str, **arguments: object) -> object:
        return control.instance_qmp(instance="con", execute=execute, arguments=arguments)

    qmp("machine-create")
    qmp("chardev-add", id="c0", backend={"type": "console", "data": {}})
    qmp("chardev-add", id="null", backend={"type": "null", "data": {}})
    assert refused(control, "console-attach", instance="con", chardev="null").code == rpc.QMP_ERROR
    assert refused(control, "console-attach", instance="con", chardev="nope").code == rpc.QMP_ERROR
    console = control.console_attach(instance="con", chardev="c0")["console"]
    with shared.client() as other:
        second = other.console_attach(instance="con", chardev="c0")["console"]
        control.console_write(console=console, data=base64.b64encode(b"hello").decode())
        assert refused(control, "console-write", console=console, data="%").code == rpc.INVALID_PARAMS
        other.console_detach(console=second)
        assert refused(other, "console-detach", console=second).code == rpc.NOT_FOUND
    qmp("chardev-remove", id="c0")
    assert control.next_notification(10) == {
        "jsonrpc": "2.0", "method": "console-closed", "params": {"console": console}
    }  # fmt: skip


def test_a_connection_that_goes_leaves_its_instances(shared: ControlProcess) -> None:
    with shared.client() as first:
        first.instance_create(instance="stays")
        first.instance_subscribe()
    with shared.client() as second:
        assert second.instance_qmp(instance="stays", execute="query-name") == {"name": "stays"}
        second.instance_end(instance="stays")


# -- the zygote


def test_the_zygote_has_one_thread_no_llvm_and_no_socket_of_an_instance(shared: ControlProcess, control: ControlClient) -> None:
    control.instance_create()
    control.instance_create()
    pid = control.control_info()["zygote-pid"]
    assert threads(pid) == 1
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "llvmlite" not in maps
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    # Its own to the control plane, and the pair that wakes it.
    assert sum(link.startswith("socket:") for link in links) == 3
    assert not any("eventpoll" in link for link in links)


def test_what_the_zygote_inherits_of_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_SECRET", "hunter2")
    with start().client() as client:
        made = client.instance_create()
        for pid in (client.control_info()["zygote-pid"], made["pid"]):
            assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_zygote_that_dies_is_started_again_and_its_children_stay(start: Start) -> None:
    with start().client() as client:
        client.instance_create(instance="before")
        zygote = client.control_info()["zygote-pid"]
        os.kill(zygote, signal.SIGKILL)
        assert gone(zygote)
        client.instance_create(instance="after")
        info = client.control_info()
        assert info["zygote-restarts"] == 1 and info["zygote-pid"] != zygote
        assert client.instance_qmp(instance="before", execute="query-name") == {"name": "before"}
        how = client.instance_end(instance="before")
        assert how["reason"] == "ended" and "status" not in how
        assert client.instance_end(instance="after")["status"] == 0


def test_when_the_control_plane_dies_nothing_of_it_stays(start: Start) -> None:
    process = start()
    with process.client() as client:
        pids = [client.instance_create()["pid"], client.instance_create()["pid"], client.control_info()["zygote-pid"]]
    process.process.kill()
    process.process.communicate()
    assert all(gone(pid) for pid in pids)


def test_sigterm_ends_all_in_order(start: Start) -> None:
    process = start()
    with process.client() as client:
        pids = [client.instance_create()["pid"], client.control_info()["zygote-pid"]]
        client.instance_create(in_process=True)
        client.instance_subscribe(events=["INSTANCE_ENDED"])
        process.process.terminate()
        assert {client.wait_event("INSTANCE_ENDED")["data"]["reason"] for _ in range(2)} == {"ended"}
    assert process.stopped() == (0, "")
    assert all(gone(pid) for pid in pids)
    assert not os.path.exists(process.path)


def test_cancelled_creations_leave_nothing(shared: ControlProcess, control: ControlClient) -> None:
    """Whenever the client changes its mind: before the fork, during it, after it."""
    create = '{"jsonrpc":"2.0","id":"c","method":"instance-create","params":{"instance":"brief"}}'
    cancel = '{"jsonrpc":"2.0","id":1,"method":"request-cancel","params":{"id":"c"}}'
    for turns in range(8):
        with shared.client() as hasty:
            hasty._sock.sendall(hasty.frame(create))
            for _ in range(turns):
                hasty.control_info()
            hasty._sock.sendall(hasty.frame(cancel))
            hasty.control_info()
        # It may have come into being before; one that is stuck halfway would never end.
        with suppress(RpcError):
            control.instance_end(instance="brief")
    assert control.instance_list() == []


def test_what_a_monitor_could_not_read_is_refused(shared: ControlProcess, control: ControlClient) -> None:
    """It would answer to nobody, and the caller would wait for ever."""
    control.instance_create(instance="a")
    for value in (r'"\ud800"', r'"\uffff"', "1" * 400, "[" * 1100 + "]" * 1100):
        status, text = shared.http(
            "POST", "/rpc", '{"jsonrpc":"2.0","id":1,"method":"instance-qmp","params":{"instance":"a","execute":"query-name",'
            '"arguments":{"x":' + value + "}}}", **{"Content-Type": "application/json"},
        )  # fmt: skip
        assert status == 200 and '"code":-32000' in text and "JSON parse error" in text
    assert control.instance_qmp(instance="a", execute="query-name") == {"name": "a"}


def test_an_instance_that_hangs_can_be_inspected(control: ControlClient) -> None:
    pid = control.instance_create(instance="a")["pid"]
    os.kill(pid, signal.SIGSTOP)
    seen = control.instance_inspect(instance="a")
    assert seen["pid"] == pid and "phase" not in seen
    assert control.instance_end(instance="a", force=True)["reason"] == "killed"


def test_limits_that_no_instance_could_live_with(control: ControlClient) -> None:
    for limits in ({"files": 1}, {"events": 0}):
        assert refused(control, "instance-create", limits=limits).code == -32602
    assert refused(control, "instance-create", limits={"ram": 2**64 - 1}).code == -32003
    assert control.instance_list() == []


def test_subscriptions_are_bounded(control: ControlClient) -> None:
    assert refused(control, "instance-subscribe", events=["E"] * 300).code == -32003
    assert refused(control, "instance-subscribe", events=["E" * 1000]).code == -32003


def test_many_lives_leave_nothing(shared: ControlProcess, control: ControlClient) -> None:
    """Neither descriptors in the control plane and its zygote, nor dead children."""

    def life(number: int) -> None:
        control.instance_create(instance="brief")
        with shared.client() as other:
            other.instance_subscribe()
            other.instance_qmp(instance="brief", execute="query-status")
        control.instance_end(instance="brief", force=bool(number % 2))

    def seen() -> list[int]:
        pids = shared.process.pid, control.control_info()["zygote-pid"]
        children = Path(f"/proc/{pids[1]}/task/{pids[1]}/children").read_text().split()
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids] + [len(children)]

    life(0)
    before = seen()
    for number in range(30):
        life(number)
    # The last connection may still be on its way out.
    for _ in range(1000):
        if seen() == before:
            break
    assert seen() == before
