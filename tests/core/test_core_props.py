"""Typed properties: what a client may set, when, and in which words it is refused."""

from __future__ import annotations

import pytest

from ratite.core.objects.obj import Container, Obj
from ratite.core.objects.props import Prop, config, debug, link, state, tunable
from ratite.qapi.errors import GenericError


class Base(Obj):
    """A base."""

    TYPE = "base"
    ABSTRACT = True
    level = config("uint8", 3, "a level", minimum=1, maximum=9)
    mode = config("str", "a", "a mode", values=("a", "b"))


class Thing(Base):
    """A thing.

    More about it.
    """

    TYPE = "thing"
    IMPLEMENTS = ("resettable",)
    level = config("uint8", 4, "another default", maximum=9)
    peer = link("thing", "a peer", optional=True)
    size = config("size", 0, "a size")
    ratio = tunable("number", 1.5)
    on = tunable("bool", True)
    fifo = state("bytes", bytearray(b"ab"))
    words = state("list:uint16")
    counter = debug("uint64")
    twice = debug("uint64", getter="_twice")
    half = tunable("int8", getter="_half", setter="_set_half")

    def _twice(self) -> int:
        return 2 * int(self.level)

    def _half(self) -> int:
        return int(self.level) // 2

    def _set_half(self, value: int) -> None:
        self.level = 2 * value


def refused(thing: Obj, name: str, value: object) -> str:
    with pytest.raises(GenericError) as info:
        thing.set_property(name, value)
    return info.value.desc


def test_instances_hold_plain_attributes_of_their_own() -> None:
    one, two = Thing("one"), Thing("two")
    assert not isinstance(Thing.__dict__.get("level"), Prop)
    assert one.level == 4 and one.__dict__["level"] == 4
    one.words.append(7)
    one.fifo.append(1)
    assert two.words == [] and two.fifo == b"ab"


def test_types_know_their_bases_and_interfaces() -> None:
    thing = Thing("t")
    assert all(thing.is_a(name) for name in ("thing", "base", "object", "resettable"))
    assert not thing.is_a("widget")
    assert Base.ABSTRACT and not Thing.ABSTRACT


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("level", "x", "Parameter 'level' expects uint64"),
        ("level", True, "Parameter 'level' expects uint64"),
        ("level", 1.0, "Parameter 'level' expects uint64"),
        ("level", 256, "Parameter 'level' expects uint8_t"),
        ("level", -1, "Parameter 'level' expects uint8_t"),
        ("level", 10, "Property 'thing.level' must be at most 9, not 10"),
        ("size", 1 << 64, "Parameter 'size' expects uint64"),
        ("mode", "c", "Parameter 'mode' does not accept value 'c'"),
        ("mode", 1, "Invalid parameter type for 'mode', expected: string"),
        ("on", 1, "Invalid parameter type for 'on', expected: boolean"),
        ("ratio", "1", "Invalid parameter type for 'ratio', expected: number"),
        ("peer", 5, "Invalid parameter type for 'peer', expected: string"),
        ("nope", 1, "Property 'thing.nope' not found"),
        ("words", [1], "Property 'thing.words' is not writable"),
        ("counter", 1, "Property 'thing.counter' is not writable"),
        ("twice", 1, "Property 'thing.twice' is not writable"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(name: str, value: object, text: str) -> None:
    thing = Thing("t")
    before = {prop.name: thing.get_property(prop.name) for prop in thing.properties()}
    assert refused(thing, name, value) == text
    assert {prop.name: thing.get_property(prop.name) for prop in thing.properties()} == before


def test_config_is_fixed_once_wired_and_tunables_are_not() -> None:
    thing = Thing("t")
    thing.configure({"level": 5, "mode": "b", "size": (1 << 64) - 1})
    assert thing.phase == "configured" and thing.given == {"level", "mode", "size"}
    for phase, word in (("wired", "wired"), ("realized", "realized")):
        thing.phase = phase
        text = f"Attempt to set property 'level' on object 't' (type 'thing') after it was {word}"
        assert refused(thing, "level", 6) == text
        thing.set_property("ratio", 3)
    assert thing.ratio == 3


def test_computed_values_and_bytes_as_clients_see_them() -> None:
    thing = Thing("t")
    assert thing.get_property("twice") == 8
    thing.set_property("half", 1)
    assert thing.level == 2
    assert thing.get_property("fifo") == "6162"


def test_state_is_saved_and_put_back_whole() -> None:
    thing = Thing("t")
    buffer = thing.fifo
    thing.fifo[:] = b"xyz"
    thing.words = [1, 2]
    saved = thing.save_state()
    assert saved == {"fifo": b"xyz", "words": [1, 2]}
    other = Thing("u")
    other.load_state(saved)
    assert other.save_state() == saved
    with pytest.raises(GenericError, match="expects uint16"):
        other.load_state({"fifo": b"", "words": [1 << 16]})
    assert other.save_state() == saved
    with pytest.raises(GenericError, match="not part of the saved state"):
        other.load_state({"level": 1})
    thing.load_state({"fifo": b"q"})
    assert buffer == b"q", "who holds the buffer sees the restored bytes"


def test_a_row_says_kind_default_unit_and_range() -> None:
    assert Base.PROPERTIES["level"].describe() == {
        "name": "level", "type": "uint8", "kind": "config", "text": "a level", "default": 3, "minimum": 1, "maximum": 9,
        "since": "0.1",
    }
    assert Thing.PROPERTIES["peer"].type_name == "link<thing>"


def test_a_type_outside_qapi_is_the_authors_error() -> None:
    with pytest.raises(TypeError, match="float"):
        config("float", 0)


def test_children_have_one_name_each() -> None:
    box = Container("/")
    child = Container("a")
    box.add_child(child)
    assert child.path == "/a"
    with pytest.raises(GenericError, match=r"attempt to add duplicate property 'a' to object \(type 'container'\)"):
        box.add_child(Container("a"))
