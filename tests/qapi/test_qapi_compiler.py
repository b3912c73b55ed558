"""The compiler: a bad schema for each rule, a good one that uses everything, and the tool."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qapi_golden import message, read_cases

from ratite.qapi.__main__ import main
from ratite.qapi.errors import SchemaError
from ratite.qapi.resolved import ResolvedSchema
from ratite.qapi.schema import compile_schema

DATA = Path(__file__).parent / "data"
GOOD = DATA / "good" / "main.json"


@pytest.mark.parametrize("name, schema, expected", read_cases(), ids=lambda value: value if value.isascii() else "")
def test_bad_schema(name: str, schema: str, expected: str, tmp_path: Path) -> None:
    assert message(name, schema, tmp_path) == expected
    assert expected.startswith(f"{name}.json:")


def test_good_schema() -> None:
    expected = json.loads((DATA / "good.dump.json").read_text())
    assert compile_schema(str(GOOD)).to_json() == expected


def test_the_resolved_form_survives_json() -> None:
    schema = compile_schema(str(GOOD))
    again = ResolvedSchema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again.definitions == schema.definitions
    with pytest.raises(ValueError, match="must be of version 1, not 2"):
        ResolvedSchema.from_json({"version": 2, "definitions": []})


def test_empty_schema(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("")
    assert compile_schema(str(tmp_path / "empty.json")).definitions == ()


def test_an_error_shows_how_the_file_was_reached(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.json").write_text("# main\n{ 'include': 'sub/b.json' }\n")
    (tmp_path / "sub" / "b.json").write_text("{ 'include': '../c.json' }\n")
    (tmp_path / "c.json").write_text("\n\n{ 'command': 'cmd',\n  'data': 'Nope' }\n")
    with pytest.raises(SchemaError) as caught:
        compile_schema(str(tmp_path / "a.json"))
    shown = str(caught.value).replace(str(tmp_path), "DIR")
    assert shown == (
        "In file included from DIR/a.json:2:\n"
        "In file included from DIR/sub/b.json:1:\n"
        "DIR/sub/../c.json:3: In command 'cmd': 'data' uses unknown type 'Nope'"
    )
    error = caught.value
    assert (error.line, error.col, error.definition) == (3, 0, "command 'cmd'")
    assert [line for _, line in error.included_from] == [2, 1]


def test_a_longer_inclusion_loop(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{ 'include': 'b.json' }")
    (tmp_path / "b.json").write_text("{ 'include': 'a.json' }")
    with pytest.raises(SchemaError, match=r"b\.json:1: inclusion loop for a\.json"):
        compile_schema(str(tmp_path / "a.json"))


def test_a_file_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"# \xff\n")
    with pytest.raises(SchemaError, match=r"a\.json: a schema file must be UTF-8, byte 2 isn't"):
        compile_schema(str(tmp_path / "a.json"))


def test_at_most_64_features(tmp_path: Path) -> None:
    def schema(count: int) -> str:
        names = ", ".join(f"'f{index}'" for index in range(count))
        return f"{{ 'command': 'cmd', 'features': [{names}] }}"

    (tmp_path / "a.json").write_text(schema(64))
    compile_schema(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text(schema(65))
    with pytest.raises(SchemaError, match="In command 'cmd': a schema must have at most 64 different features"):
        compile_schema(str(tmp_path / "a.json"))


def test_definitions_stand_in_the_order_of_first_include(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{ 'include': 'b.json' }\n{ 'command': 'first' }\n{ 'include': 'c.json' }")
    (tmp_path / "b.json").write_text("{ 'command': 'second' }\n{ 'include': 'd.json' }")
    (tmp_path / "c.json").write_text("{ 'command': 'fourth' }\n{ 'include': 'd.json' }")
    (tmp_path / "d.json").write_text("{ 'command': 'third' }")
    schema = compile_schema(str(tmp_path / "a.json"))
    assert [definition["name"] for definition in schema.definitions] == ["first", "second", "third", "fourth"]


def test_names_may_repeat_an_existing_one_but_for_a_dash(tmp_path: Path) -> None:
    pragma = "{ 'pragma': { 'command-name-exceptions': ['device_add'] } }\n"
    (tmp_path / "a.json").write_text(pragma + "{ 'command': 'device_add' }\n{ 'command': 'device-add' }")
    assert len(compile_schema(str(tmp_path / "a.json")).definitions) == 2


OLD_DOC = "##\n# @cmd:\n#\n# One. Two three four.  " + "x y " * 20 + "\n#\n# Note: so it is\n##\n{ 'command': 'cmd' }"


def test_older_documentation_is_accepted_on_demand(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(OLD_DOC)
    with pytest.raises(SchemaError):
        compile_schema(str(tmp_path / "a.json"))
    (command,) = compile_schema(str(tmp_path / "a.json"), doc_style=False).definitions
    assert "Note: so it is" in command["doc"]["text"]


SOURCES = "".join(path.read_text() for path in sorted((DATA / "good").rglob("*.json")))
LINES = [line for line in SOURCES.splitlines() if "include" not in line]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_text_compiles_or_is_a_schema_error(data: st.DataObject) -> None:
    lines = list(LINES)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        cut = data.draw(st.integers(0, len(line)))
        junk = data.draw(st.sampled_from(["", "'", "{", "}", "[", "]", ":", ",", "#", "##", "\t", "\\", "@", "'if': 'x',"]))
        lines[at] = line[:cut] + junk + line[cut + data.draw(st.integers(0, 3)) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text("\n".join(lines), encoding="utf-8")
        try:
            compile_schema(str(path))
        except SchemaError as error:
            assert error.file.endswith("a.json") and error.line > 0 and error.msg


def test_nesting(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{ 'command': 'cmd', 'if': " + "{ 'not': " * 5000)
    with pytest.raises(SchemaError, match=r"a\.json:1:\d+: nested more than 100 deep"):
        compile_schema(str(tmp_path / "a.json"))


# ---------------------------------------------------------------- the tool


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    out, err = capsys.readouterr()
    return status, out, err


def test_tool_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, str(GOOD)) == (0, "", "")


def test_tool_dump(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, str(GOOD), "--dump")
    assert (status, err) == (0, "")
    assert json.loads(out) == json.loads((DATA / "good.dump.json").read_text())


def test_tool_introspect(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(GOOD), "--introspect", "--if", "CONFIG_A", "CONFIG_QCOW2")
    assert status == 0
    assert json.loads(out) == json.loads((DATA / "good.introspect.json").read_text())
    _, repeated, _ = run(capsys, str(GOOD), "--introspect", "--if", "CONFIG_A", "--if", "CONFIG_QCOW2")
    assert repeated == out
    _, none, _ = run(capsys, str(GOOD), "--introspect", "--indent", "0")
    names = {entry["name"] for entry in json.loads(none)}
    assert "NOTHING_HAPPENED" in names and "query-strings" not in names and none.count("\n") == 1


def test_tool_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(GOOD), "--json-schema")
    schemas = json.loads(out)
    assert status == 0 and schemas["empty"]["additionalProperties"] is False
    status, out, _ = run(capsys, str(GOOD), "--json-schema", "--command", "plug")
    assert status == 0 and json.loads(out) == schemas["plug"]
    status, out, err = run(capsys, str(GOOD), "--json-schema", "--command", "query-strings")
    assert (status, out) == (1, "") and "has no command 'query-strings' under these conditions" in err


def test_tool_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{ 'command': 'x', 'data': 'Nope' }")
    status, out, err = run(capsys, str(path), "--dump")
    assert (status, out) == (1, "")
    assert err == f"{path}:1: In command 'x': 'data' uses unknown type 'Nope'\n"


def test_tool_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for word in ("--dump", "--introspect", "--json-schema", "--if", "examples:"):
        assert word in shown
