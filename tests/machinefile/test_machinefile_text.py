"""YAML as far as machine files take it, and expressions."""

from __future__ import annotations

from typing import Any

import pytest
from machinefile_kit import Kit, parsed

from ratite.qapi.machinefile.document import DEPTH_MAX, TEXT_MAX, VALUES_MAX, read_document
from ratite.qapi.machinefile.expression import ExpressionError, escaped, evaluate, is_expression
from ratite.qapi.machinefile.problems import Place, Problems


def data(text: str) -> Any:
    return parsed(text, "a.yaml")


def wrong(text: str) -> str:
    problems = Problems()
    read_document("a.yaml", text, problems)
    with pytest.raises(Exception, match=r"a\.yaml") as caught:
        problems.check()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 0x1F", 31), ("a: 0o17", 15), ("a: 017", 17), ("a: -5", -5), ("a: 1_000", "1_000"), ("a: 1:30", "1:30"),
        ("a: on", "on"), ("a: no", "no"), ("a: true", True), ("a: 'true'", "true"), ("a: ~", None), ("a:", None),
        ("a: 1.5", 1.5), ("a: .inf", ".inf"), ("a: 2026-01-01", "2026-01-01"), ("a: '0x1F'", "0x1F"), ('{"a": "x"}', "x"),
        ("a: |\n  two\n  lines\n", "two\nlines\n"), ("a: $(n + 1)", "$(n + 1)"), ("{a: $(n)}", "$(n)"), ("0x10: a", None),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = data(text)
    assert read == ({"0x10": "a"} if text.startswith("0x10") else {"a": value})
    assert type(read.get("a")) is (type(value) if not text.startswith("0x10") else type(None))


def test_places_are_known_of_values_and_keys() -> None:
    document = read_document("a.yaml", "a:\n  - b: 1\n    c: [2,\n     3]\n", Problems())
    assert document is not None
    assert document.place(("a", 0, "c", 1)) == Place("a.yaml", 4, 6)
    assert document.place(("a", 0, "c"), key=True) == Place("a.yaml", 3, 5)
    assert document.place(("a", 0, "missing")) == Place("a.yaml", 2, 5), "the nearest thing that holds it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "a.yaml:1:4: a: anchors (&name) aren't taken"),
        ("a: *x", "a.yaml:1:4: a: aliases (*name) aren't taken"),
        ("a: !!python/object:os.system 1", "a.yaml:1:4: a: tags aren't taken (tag:yaml.org,2002:python/object:os.system)"),
        ("a: !x 1", "a.yaml:1:4: a: tags aren't taken (!x)"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3:1: a: the key is there already, at 1:1"),
        ("a: 1\n---\nb: 1", "a.yaml:2:1: a machine file is one document"),
        ("", "the file is empty"),
        ("? [1]\n: 2", "a key must be a plain text"),
        ("a: [1", "it isn't YAML: while parsing a flow sequence"),
        ("a: \t- 1", "it isn't YAML"),
        ("a: 1\nb: é\x07", 'a.yaml:2:5: a character can\'t stand in YAML, not "\\u0007"'),
        ("a: \x00", 'a.yaml:1:4: a character can\'t stand in YAML, not "\\u0000"'),
        ("a: \ud800", "a.yaml:1:4: a character can't stand in YAML"),
        ('"\\0": 1', "a.yaml:1:1: a NUL character can't stand in a text"),
        ('a: "\\0"', "a.yaml:1:4: a: a NUL character can't stand in a text"),
        ("a: " + "9" * 41, "a number has at most 40 letters"),
        ("[" * 100_000, f"values can be nested {DEPTH_MAX} deep"),
        ("a: " + "{a: " * 50_000, f"values can be nested {DEPTH_MAX} deep"),
        ("- 1\n" * (VALUES_MAX + 1), f"the file must hold at most {VALUES_MAX} values"),
        ("#" * (TEXT_MAX + 1), f"the file must have at most {TEXT_MAX} letters"),
    ],
    ids=lambda text: text[:20],
)
def test_what_isnt_taken(text: str, message: str) -> None:
    assert message in wrong(text)


NAMES = {"n": 3, "ram": 1 << 30, "name": "uart", "yes": True, "where": {"type": "pty"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"), ("$(n)", 3), ("cpu$(n)", "cpu3"), ("$(n)$(n)", "33"), ("$(n + 2 * 4)", 11), ("$((n + 2) * 4)", 20),
        ("$(-n)", -3), ("$(7 // 2 % 2)", 1), ("$(1 << n | 1)", 9), ("$(0xff & 0x3C)", 60), ("$(512M)", 512 << 20),
        ("$(ram // 1K)", 1 << 20), ("$(hex(n * 5))", "f"), ('$(repeat("MS", n, ","))', "MS,MS,MS"),
        ("$(n == 3 and not n > 3)", True), ("$(1 if n < 2 else 2)", 2), ('$("a" + name)', "auart"), ('$(name != "")', True),
        ("$(yes)", True), ("x$(yes)", "xtrue"), ("$(where)", {"type": "pty"}), ("$$(n)", "$(n)"), ("a$$(n)$(n)", "a$(n)3"),
        ("$5 and )", "$5 and )"), ('$(")")', ")"), ("$(n == 3 or n)", None), ("$(null)", None),
    ],
)  # fmt: skip
def test_expressions(text: str, value: object) -> None:
    if text == "$(n == 3 or n)":
        with pytest.raises(ExpressionError, match="take true or false"):
            evaluate(text, NAMES)
    else:
        made = evaluate(text, NAMES)
        assert made == value
        assert type(made) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(m)", "there is no parameter or variable 'm'"),
        ("$(n", "')' must follow at the end"),
        ("$(n n)", "')' must follow at 'n'"),
        ("$()", "a value must stand at ')'"),
        ("$(n ** 2)", "a value must stand at '*'"),
        ("$(n.real)", "')' must follow at '.real)'"),
        ("$(__import__('os'))", "the functions are hex(integer) and repeat(text, count, separator)"),
        ("$(n / 0)", "')' must follow"),
        ("$(n // 0)", "'//' by 0"),
        ("$(1 << 1000)", "'<<' shifts by 0 to 128 bits"),
        ("$(0xffffffffffffffff * 0xffffffffffffffff * 4)", "at most 128 bits"),
        ("$(name * 100)", "'*' takes two integers"),
        ("$(repeat(name, 99999999999, ''))", "at most 65536 letters"),
        ("$(" + "(" * 200 + ")" * 200 + ")", "nested 30 deep"),
        ("$(" + "not " * 100 + "1 == 1" + " or 1 == 1" * 60 + ")", "at most 500 letters"),
        ("$(" + "9" * 600 + ")", "at most 500 letters"),
        ("x$(where)", "a value inside a text must be a string or an integer"),
        ("$(name < name)", "'<' takes two integers"),
        ("$(yes + 1)", "'+' takes two integers or two strings"),
    ],
)
def test_expressions_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, NAMES)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["$(n)", "a$(", "$$(", "$$$(", "$", "plain", "$($$("])
def test_escaped_texts_come_back(text: str) -> None:
    assert evaluate(escaped(text), {}) == text
    assert not is_expression(escaped(text))


def test_names_that_may_be_meant_are_told(kit: Kit) -> None:
    text = "ratite: 1\nparameters: {ram: {type: int, default: 1}}\nobjects: {a: {type: $(rom)}, b: {type: $(x)}}\n"
    assert kit.problems(text) == [
        "3:21: objects.a.type: there is no parameter or variable 'rom' (did you mean 'ram'?)",
        "3:40: objects.b.type: there is no parameter or variable 'x' (there are: ram)",
    ]


def test_a_text_of_many_long_ones_is_not_made(kit: Kit) -> None:
    """13 GB of it."""
    text = f"""ratite: 1
parameters: {{p: {{type: str, default: '$(repeat("x", 65536, ""))'}}}}
description: x
objects: {{v: {{type: "{"$(p)" * 200_000}"}}}}
"""
    assert kit.problems(text) == ["4:21: objects.v.type: a text can have at most 65536 letters"]


def test_a_message_tells_a_terminal_nothing(kit: Kit) -> None:
    (first,) = kit.problems('ratite: 1\n"\\e[2J\\x9b": 5\n')
    assert first == "2:1: \\x1b[2J\\x9b: a machine file has no '\\x1b[2J\\x9b'"


def test_a_bomb_of_texts_is_bounded(kit: Kit) -> None:
    texts = ["x" * 100, *(f"$(p{n})" * 10 for n in range(7))]
    parameters = "".join(f"  p{n}: {{type: str, default: '{text}'}}\n" for n, text in enumerate(texts))
    found = kit.problems(f"ratite: 1\nparameters:\n{parameters}")
    assert any("a text can have at most 65536 letters" in problem for problem in found)
