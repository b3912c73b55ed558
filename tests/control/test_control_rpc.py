"""JSON-RPC as the control plane speaks it, over the real socket, and its texts without one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from control_kit import ControlProcess, refused

from ratite.clients.control import ControlClient
from ratite.daemon.control import methods, rpc
from ratite.daemon.control.generate import products
from ratite.daemon.control.openrpc import document


def call(method: str, id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def code(answer: Any) -> int:
    found: int = answer["error"]["code"]
    return found


def test_a_request_and_its_answer(shared: ControlProcess) -> None:
    answer = shared.post(call("control-info", id="x"))
    assert answer["jsonrpc"] == "2.0" and answer["id"] == "x"
    assert answer["result"]["pid"] == shared.process.pid


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (call("nope"), -32601),
        (call("rpc.nope"), -32601),
        (call("instance-list", bogus=1), -32602),
        (call("instance-inspect"), -32602),
        (call("instance-inspect", instance=5), -32602),
        (call("instance-inspect", instance="nobody"), -32001),
        ({"jsonrpc": "2.0", "id": 1, "method": "instance-list", "params": []}, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "instance-list"}, -32600),
        ({"id": 1, "method": "instance-list"}, -32600),
        ({"jsonrpc": "2.0", "id": [], "method": "instance-list"}, -32600),
        (5, -32600),
        ([], -32600),
        ([call("instance-list")] * 1001, -32600),
    ],
)
def test_refusals(shared: ControlProcess, message: Any, wanted: int) -> None:
    assert code(shared.post(message)) == wanted


@pytest.mark.parametrize("text", ["", "{", "nope", "[" * 100_000, '{"a":NaN}', b"\xff\xfe", '{"a":' * 50_000, "9" * 5000])
def test_what_is_no_json(shared: ControlProcess, text: str | bytes) -> None:
    status, answer = shared.http("POST", "/rpc", text, **{"Content-Type": "application/json"})
    assert status == 200 and code(json.loads(answer)) == -32700


def test_batches_and_notifications(shared: ControlProcess) -> None:
    note = {"jsonrpc": "2.0", "method": "instance-list"}
    assert shared.post(note) is None
    assert shared.post({"jsonrpc": "2.0", "method": "nope"}) is None
    assert shared.post([note, note]) is None
    answers = shared.post([call("instance-list", id=1), note, 7, call("nope", id=3), call("instance-list", id=4)])
    assert [(answer["id"], "result" in answer) for answer in answers] == [(1, True), (None, False), (3, False), (4, True)]


def test_a_batch_over_a_websocket_has_one_answer(control: ControlClient) -> None:
    batch = [call("instance-create", id=100, instance="b"), call("instance-list", id=101)]
    control._sock.sendall(control.frame(json.dumps(batch)))
    answers: Any = None
    while answers is None:
        for text in control._receive(10):
            answers = json.loads(text)
    assert [answer["id"] for answer in answers] == [100, 101]


def test_methods_of_schema_and_code_are_the_same_set() -> None:
    commands = {each["name"] for each in methods.load_control_schema().definitions if each["meta"] == "command"}
    assert commands == set(methods.handlers())


def test_openrpc_describes_every_method_and_refers_to_what_is_there(control: ControlClient) -> None:
    found = control.call("rpc.discover", {})
    assert found == json.loads(json.dumps(document(methods.load_control_schema())))
    assert found["openrpc"] == "1.3.2"
    names = {method["name"] for method in found["methods"]}
    assert names == {*methods.handlers(), "rpc.discover"}
    text = json.dumps(found)
    for part in text.split('"$ref": "')[1:]:
        place = part.partition('"')[0]
        assert place.startswith("#/components/schemas/")
        assert place.rpartition("/")[2] in found["components"]["schemas"]
    assert {note["name"] for note in found["x-notifications"]} == {"event", "console-output", "console-closed"}
    assert refused(control, "rpc.discover", x=1).code == rpc.INVALID_PARAMS


def test_generated_clients_are_fresh() -> None:
    for path, text in products().items():
        assert path.read_text() == text, "run python -m ratite.daemon.control.generate"


def test_answers_are_what_the_schema_says(control: ControlClient) -> None:
    from ratite.qapi.tables import Tables

    schema = methods.load_control_schema()
    tables = Tables(schema)
    made = control.instance_create(instance="shape")
    tables.check_type("InstanceInfo", made)
    tables.check_type("ControlInfo", control.control_info())
    tables.check_type("[InstanceInfo]", control.instance_list())
    tables.check_type("InstanceDetails", control.instance_inspect(instance="shape"))
    control.instance_subscribe(instance="shape")
    tables.check_type("InstanceEnd", control.instance_end(instance="shape"))
    for name in ("SHUTDOWN", "INSTANCE_ENDED"):
        tables.check_event("EVENT", dict(control.wait_event(name)))
