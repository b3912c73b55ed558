"""The wire grammar: what QEMU's monitor was seen to answer, chunk by chunk, at the limits; and encode.

data/wire-observed.json holds rows [input (latin-1), outcomes, flush]: what QEMU 7.2 answered to the input
followed by 0xFF; an outcome is a parse error's text or {"value": id}; `flush` says whether the 0xFF
gave a "stray" of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratite.qapi.errors import QmpError
from ratite.qapi.wire import NESTING_LIMIT, TOKEN_COUNT_LIMIT, TOKEN_SIZE_LIMIT, JsonStream, encode

OBSERVED = json.loads((Path(__file__).parent / "data" / "wire-observed.json").read_text())
PREFIX = "JSON parse error, "

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def outcomes(items: list[object]) -> list[object]:
    return [item.desc if isinstance(item, QmpError) else ("value", item) for item in items]


def feed_in(data: bytes, size: int) -> list[object]:
    stream = JsonStream()
    items: list[object] = []
    for start in range(0, len(data), size):
        items += stream.feed(data[start : start + size])
    return outcomes(items)


def one(data: bytes) -> object:
    items = JsonStream().feed(data)
    assert len(items) == 1
    return items[0]


@pytest.mark.parametrize("row", OBSERVED, ids=lambda row: ascii(row[0]))
def test_as_observed(row: list[Any]) -> None:
    text, expected, flush = row
    data = text.encode("latin-1") + b"\xff"
    want = [PREFIX + item if isinstance(item, str) else "value" for item in expected]
    if flush:
        want.append(PREFIX + "stray '\ufffd'")
    whole = feed_in(data, len(data))
    assert [item[0] if isinstance(item, tuple) else item for item in whole] == want
    for size in (1, 2, 3, 7):
        assert feed_in(data, size) == whole
    ids = [item["value"] for item in expected if isinstance(item, dict) and item["value"] not in ("?", None)]
    values = [item[1] for item in whole if isinstance(item, tuple)]
    assert ids == [value["id"] for value in values if isinstance(value, dict) and value.get("id") is not None]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*b"{}[]:,\"'\\ \n\t0159-+.eEtrufalsn\xff\xc3\xa9u\x00"]), max_size=40), st.integers(1, 9))
def test_chunks_make_no_difference(codes: list[int], size: int) -> None:
    data = bytes(codes)
    assert feed_in(data, size) == feed_in(data, len(data) or 1)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from([1, 5, 1000]))
def test_json_comes_back(values: list[object], size: int) -> None:
    # A string form of Python's json is also the wire's, but for the noncharacters that QMP refuses.
    data = b" ".join(json.dumps(value, ensure_ascii=False).encode() for value in values) + b"\n"
    if any(chr(p << 16 | e) in data.decode() for p in range(17) for e in (0xFFFE, 0xFFFF)) or any(
        "\ufdd0" <= char <= "\ufdef" for char in data.decode()
    ):
        return
    assert feed_in(data, size) == [("value", value) for value in values]


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4))
def test_the_quick_and_the_exact_way_agree(value: dict[str, object]) -> None:
    data = json.dumps(value).encode()
    # A pending token keeps the quick decoder away: a message in two chunks is scanned exactly.
    assert feed_in(data, len(data)) == feed_in(data, max(1, len(data) - 1))


@pytest.mark.parametrize(
    "text, value",
    [
        (b"9223372036854775807", 9223372036854775807),
        (b"18446744073709551615", 18446744073709551615),
        (b"18446744073709551616", 18446744073709551616.0),
        (b"-9223372036854775808", -9223372036854775808),
        (b"-9223372036854775809", -9223372036854775809.0),
        (b"1e3", 1000.0),
        (b"-0", 0),
        (b"'it\\'s \"q\"'", 'it\'s "q"'),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"h\u00e9llo \u2603 \U0001f600"'.encode(), "h\u00e9llo \u2603 \U0001f600"),
        (b'"\xc0\x80"', "\0"),
    ],
)
def test_values(text: bytes, value: object) -> None:
    got = one(b'{"v":' + text + b"}")
    assert got == {"v": value}
    assert isinstance(got, dict) and type(got["v"]) is type(value)


@pytest.mark.parametrize("text", [b"1e400", b"-1e400", b"9" * 400, b"1" + b"0" * 5000])
def test_a_number_past_doubles_is_refused(text: bytes) -> None:
    error = one(b'{"v":' + text + b"}")
    assert isinstance(error, QmpError)
    assert error.desc.startswith("JSON parse error, number ") and error.desc.endswith(" is out of range")
    assert len(error.desc) < 100


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("chunk", [1 << 20, 100])
def test_nesting_limit(opening: bytes, closing: bytes, chunk: int) -> None:
    def nested(depth: int) -> bytes:
        return opening * depth + b"0" + closing * depth

    assert len(feed_in(nested(NESTING_LIMIT), chunk)) == 1
    stream = JsonStream()
    data = nested(NESTING_LIMIT + 1) + b'{"next": 1}'
    items = [item for start in range(0, len(data), chunk) for item in stream.feed(data[start : start + chunk])]
    assert outcomes(items) == ["JSON nesting depth limit exceeded", ("value", {"next": 1})]


def test_token_count_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TOKEN_COUNT_LIMIT == 2 << 20
    monkeypatch.setattr("ratite.qapi.wire.TOKEN_COUNT_LIMIT", 200)
    tokens = b"[" + b"1," * 98 + b"1]"
    assert feed_in(tokens, len(tokens)) == [("value", [1] * 99)]
    tokens = b"[" + b"1," * 99 + b"1]{}"
    assert feed_in(tokens, len(tokens)) == ["JSON token count limit exceeded", ("value", {})]


def test_token_size_limit_holds_before_the_token_ends() -> None:
    stream = JsonStream()
    assert stream.feed(b'{"a":"') == []
    piece = b"x" * (1 << 20)
    items: list[object] = []
    for _ in range((TOKEN_SIZE_LIMIT >> 20) + 4):
        items += stream.feed(piece)
    assert outcomes(items) == ["JSON token size limit exceeded"]
    assert outcomes(stream.feed(b'"}{}')) == [("value", {})]


def test_an_object_past_a_limit_ends_with_a_flush_too() -> None:
    stream = JsonStream()
    stream.feed(b"[" * (NESTING_LIMIT + 5))
    assert outcomes(stream.feed(b"\xff\n{}")) == [PREFIX + "stray '\ufffd'", ("value", {})]


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[\n{"a":\n', b"[{", b'{"execute":['])
@pytest.mark.parametrize("chunk", [1 << 20, 100, 1])
def test_a_command_on_a_line_of_its_own_ends_what_is_skipped(opening: bytes, chunk: int) -> None:
    garbage = opening * (NESTING_LIMIT + 5)
    want = {"execute": "query-name", "id": [{}]}
    first = b' {"id": [{}], "execute": "query-name"}'
    for between in (b"\n", b"\r\n", b'\n{"no": 1}\n{"execute" 1}\n{"execute":\n', b"\n[{}]\n{\n"):
        data = garbage + between + first + b'{"execute":"a"}\n{"execute":"b"}\n[1]'
        assert feed_in(data, chunk) == [
            "JSON nesting depth limit exceeded",
            *(("value", value) for value in (want, {"execute": "a"}, {"execute": "b"}, [1])),
        ]


@pytest.mark.parametrize("chunk", [1 << 20, 7])
def test_what_is_skipped_ends_where_its_brackets_balance(chunk: int) -> None:
    deep = NESTING_LIMIT + 1
    inner = b'\n{"a": [1, {"b": "}"}]},\n {"c": [\n1]},\n"x", {"execute": "not first on its line"},\n'
    data = b"[" * deep + inner + b"0" + b"]" * deep + b"{}"
    assert feed_in(data, chunk) == ["JSON nesting depth limit exceeded", ("value", {})]
    # A line that is itself past a limit is no command, and no second error.
    line = b'\n{"execute":' + b"[" * deep + b"]" * deep + b"}\n"
    data = b"[" * deep + line + b"0" + b"]" * deep + b"{}"
    assert feed_in(data, chunk) == ["JSON nesting depth limit exceeded", ("value", {})]


def test_big_input_in_small_chunks_is_kept_once() -> None:
    # Quadratic rescanning would take minutes here.
    stream = JsonStream()
    data = b'{"a":"' + b"x" * 3_000_000 + b'","b":[' + b'"y",' * 50_000 + b"0]}"
    (value,) = [item for start in range(0, len(data), 512) for item in stream.feed(data[start : start + 512])]
    assert isinstance(value, dict) and len(value["a"]) == 3_000_000 and len(value["b"]) == 50_001
    digits = b"[" + b"1" * 200_000 + b"]"
    assert len(feed_in(digits, 64)) == 1


def test_idle_between_messages() -> None:
    stream = JsonStream()
    assert stream.idle
    stream.feed(b'{"a":')
    assert not stream.idle
    stream.feed(b"1}\n")
    assert stream.idle


# ---------------------------------------------------------------- encode


@pytest.mark.parametrize(
    "value, line",
    [
        ({"return": {}}, b'{"return":{}}'),
        (0.1, b"0.10000000000000001"),
        ([1e5, 1.0, -0.0, 1e300, 1e17, 5e-324], b"[100000,1,-0,1.0000000000000001e+300,1e+17,4.9406564584124654e-324]"),
        ({"x": [float("nan"), {"y": float("-inf")}], "z": 0.5}, b'{"x":[null,{"y":null}],"z":0.5}'),
        ("\u00e9\U0001f600\x7f\b\x01", b'"\\u00E9\\uD83D\\uDE00\\u007F\\b\\u0001"'),
        ("\\u00e9 [1.5", b'"\\\\u00e9 [1.5"'),
        ("a\ud800b", b'"a\\uFFFDb"'),
        ("\ude00\ud83d", b'"\\uFFFD\\uFFFD"'),
        ("\uffff\ufdd0", b'"\\uFFFD\\uFFFD"'),
        ({"k": True, "l": None, "n": 18446744073709551615}, b'{"k":true,"l":null,"n":18446744073709551615}'),
    ],
)
def test_encode(value: object, line: bytes) -> None:
    assert encode(value) == line + b"\r\n"


@settings(deadline=None)
@given(VALUES)
def test_what_is_encoded_reads_back(value: object) -> None:
    line = encode(value)
    assert line.endswith(b"\r\n") and line.isascii() and line.count(b"\n") == 1
    # -0.0 prints as "-0" and reads as the integer 0, as in QEMU; from then on nothing changes.
    (got,) = JsonStream().feed(line + b"\n")
    assert JsonStream().feed(encode(got) + b"\n") == [got]


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_sent(text: str) -> None:
    assert isinstance(json.loads(encode({"t": text})), dict)


def test_what_is_no_json_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})
