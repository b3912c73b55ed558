"""The comparison of introspections: each kind of difference is found, and told where it is."""

from __future__ import annotations

import copy
import json
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ratite.clients import schema_diff
from ratite.clients.cli import main
from ratite.clients.schema_diff import compare, pack, unpack

DUMP = Path(__file__).parents[1] / "qapi" / "data" / "qemu-7.2-riscv64.json.xz"


@pytest.fixture
def dump() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(lzma.decompress(DUMP.read_bytes()))
    return entries


def of(dump: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in dump if entry["name"] == name)


def change(dump: list[dict[str, Any]], what: str) -> None:
    """One change to `add-fd`, `query-status`, `object-add` and so on."""
    command = of(dump, "add-fd")
    arguments, answer = of(dump, command["arg-type"]), of(dump, command["ret-type"])
    status = of(dump, of(dump, of(dump, "query-status")["ret-type"])["members"][-1]["type"])
    options = of(dump, of(dump, "object-add")["arg-type"])
    if what == "command":
        dump.remove(command)
    elif what == "event":
        dump.remove(of(dump, "STOP"))
    elif what == "member":
        arguments["members"] = [row for row in arguments["members"] if row["name"] != "opaque"]
    elif what == "optional":
        arguments["members"][0].pop("default")
    elif what == "type":
        next(row for row in answer["members"] if row["name"] == "fd")["type"] = "str"
    elif what == "value":
        status["members"] = [row for row in status["members"] if row["name"] != "debug"]
    elif what == "feature":
        command["features"] = ["unstable"]
    elif what == "oob":
        command["allow-oob"] = True
    elif what == "tag":
        options["tag"] = "id"
    elif what == "variant":
        row = next(row for row in options["variants"] if row["case"] == "rng-random")
        row["type"] = next(row["type"] for row in options["variants"] if row["case"] == "rng-egd")
    else:
        raise AssertionError(what)


@pytest.mark.parametrize(("what", "forward", "backward"), [
    ("command", "missing add-fd", "extra add-fd"),
    ("event", "missing STOP", "extra STOP"),
    ("member", "missing add-fd arguments: opaque", "extra add-fd arguments: opaque"),
    ("optional", "different add-fd arguments.fdset-id: is not optional", "different add-fd arguments.fdset-id: is optional"),
    ("type", "different add-fd answer.fd: is str, not int", "different add-fd answer.fd: is int, not str"),
    ("value", "missing query-status answer.status: debug", "extra query-status answer.status: debug"),
    ("feature", "extra add-fd: feature unstable", "missing add-fd: feature unstable"),
    ("oob", "different add-fd: allow-oob is True, not None", "different add-fd: allow-oob is None, not True"),
    ("tag", "different object-add arguments: its tag is id, not qom-type",
     "different object-add arguments: its tag is qom-type, not id"),
    ("variant", "missing object-add arguments.qom-type=rng-random: filename",
     "extra object-add arguments.qom-type=rng-random: filename"),
])  # fmt: skip
def test_each_difference_is_found(dump: list[dict[str, Any]], what: str, forward: str, backward: str) -> None:
    changed = copy.deepcopy(dump)
    change(changed, what)
    assert forward in [f"{row.kind} {row}" for row in compare(changed, dump)]
    assert backward in [f"{row.kind} {row}" for row in compare(dump, changed)]


def test_masked_names_do_not_matter(dump: list[dict[str, Any]]) -> None:
    masked = re.compile(r'("(?:arg-type|ret-type|element-type|type)": "\[?)(?=\d)')
    renamed = json.loads(masked.sub(r"\1t", json.dumps(dump)))
    for entry in renamed:
        if entry["meta-type"] not in ("command", "event"):
            entry["name"] = re.sub(r"^(\[?)(?=\d)", r"\1t", entry["name"])
    assert renamed != dump and compare(renamed, dump) == []


def test_answers_are_packed_and_come_back(dump: list[dict[str, Any]]) -> None:
    fewer = [entry for entry in dump if entry["name"] != "stop"]
    came = unpack(json.loads(pack({"a": dump, "b": fewer})))
    assert compare(came["a"], dump) == compare(dump, came["a"]) == []
    assert [str(row) for row in compare(came["b"], dump)] == ["stop"]
    change(fewer := copy.deepcopy(dump), "oob")
    with pytest.raises(ValueError, match="add-fd differs"):
        pack({"a": dump, "b": fewer})


def test_the_verb_compares_files(dump: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = copy.deepcopy(dump)
    change(changed, "member")
    (tmp_path / "a.json").write_text(json.dumps({"return": changed}))
    assert main.main(["schema-diff", "--ours", str(tmp_path / "a.json"), str(DUMP)]) == 0
    assert "1 missing, 0 extra, 0 different" in capsys.readouterr().out
    assert main.main(["schema-diff", "--ours", str(DUMP), str(tmp_path / "a.json"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "": [{"kind": "extra", "name": "add-fd", "where": "arguments", "what": ["opaque"]}]
    }


@pytest.mark.parametrize(("words", "why"), [
    (("nothing.json", "--target", "riscv64"), "there is no such file"),
    ((str(DUMP),), "say which target that is"),
    (("--target", "z80"), "nothing is saved of QEMU for 'z80'"),
    ((__file__, "--target", "riscv64"), "must hold what query-qmp-schema answered"),
])  # fmt: skip
def test_mistakes_of_the_verb(words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["schema-diff", *words]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.peer
@pytest.mark.parametrize("target", schema_diff.facts())
def test_with_a_qemu_that_is_installed(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its version: nearly all that we have is known to it."""
    program = shutil.which(f"qemu-system-{target}")
    if program is None:
        pytest.skip(f"qemu-system-{target} is not installed")
    main.main(["schema-diff", program, "--target", target, "--json"])
    rows = json.loads(capsys.readouterr().out)[target]
    assert {row["name"] for row in rows if row["kind"] == "missing"} >= {"migrate", "snapshot-save"}
    assert not {row["name"] for row in rows} & {"stop", "query-version", "qom-get"}
