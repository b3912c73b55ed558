"""Inputs of the fuzzer: messages from the schema of a view, mutations of them, and what is known of their answers.

    Maker(seed).batch(number, view, oob) ──> groups of Inputs, which go out together, each with the pieces that it is cut into

A seed and a number give the same batch again, as long as the view is the same.
"""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from fuzz_arguments import WORKS, Arguments, Draw, anything, pick

from ratite.daemon.views import View

BATCH = 64
SCRAPS = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"'", b"\\", b"\\u", b"\\ud83d", b"\xff", b"\xfe", b"\x00", b"\n", b"\r\n",
    b"true", b"nul", b"1e400", b"-", b"0", b"01", b"1.5", b"9" * 30, b'"execute"', b'"exec-oob"', b'"id"', b'"arguments"',
    b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"[" * 40, b"{'a':" * 20, b'"' + b"a" * 300 + b'"', b" ",
)  # fmt: skip
# Each of these ends the daemon, or answers with what takes long to make or to read.
RARE = frozenset({"quit", "query-qmp-schema", "query-modules", "machine-dump"})
# After these the next input may mean something else, or nothing.
ALONE = (b"view-select", b"quit")
PROBE = b'\xff\n{"execute":"query-name","id":"probe"}\n'

_ASCII, _WIDE = json.JSONEncoder().encode, json.JSONEncoder(ensure_ascii=False).encode


class Known(NamedTuple):
    """A command that gets just one answer: its name, and the id that the answer has, if any.  `oob`: past the queue."""

    name: str
    has_id: bool
    id: Any
    oob: bool


class Input(NamedTuple):
    """One message's bytes.  Where nothing is known of its answers a probe follows, whose answer ends them."""

    number: int
    data: bytes
    known: Known | None

    @property
    def probe(self) -> str:
        """The id of its probe."""
        return f"probe {self.number}"

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Its bytes and, if there is a probe, what flushes them, then the probe."""
        if self.known is not None:
            return (self.data,)
        return self.data + b"\xff\n", b'{"execute":"query-name","id":"probe %d"}\n' % self.number

    @property
    def sent(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)


class Group(NamedTuple):
    """Inputs that go out one behind the other.  `cut`: chance by which each piece is cut in two; `fds`: how many descriptors
    come with the first piece."""

    inputs: tuple[Input, ...]
    cut: float
    fds: int
    seed: float

    def pieces(self) -> list[bytes]:
        """What is written at a time: that which is sound together, since what isn't makes a whole piece slow to read."""
        found: list[list[bytes]] = [[]]
        for each in self.inputs:
            first, *probe = each.parts
            if probe:
                found += [[first], probe]
            else:
                found[-1].append(first)
        draw = random.Random(self.seed).random if self.cut else None
        return [piece for part in found if part for piece in cuts(draw, b"".join(part), self.cut)]


def cuts(draw: Draw | None, data: bytes, chance: float) -> list[bytes]:
    """The bytes in pieces, cut anywhere: at one, two or five places; mostly in one."""
    if draw is None or draw() >= chance:
        return [data]
    places = sorted(int(draw() * (len(data) + 1)) for _ in range(pick(draw, (1, 2, 5))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


class Maker:
    """See the module's head."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._arguments: dict[frozenset[str], Arguments] = {}

    def random(self, number: int, purpose: int = 0) -> random.Random:
        """The chance of a batch, of its own for each purpose."""
        return random.Random((self._seed << 40 | number) << 2 | purpose)

    def batch(self, number: int, view: View, oob: bool) -> list[Group]:
        """The inputs of a batch for a session of this view; `oob`: it has that capability."""
        draw = self.random(number).random
        made = self._of(view)
        together: list[Input] = []
        alone: list[Input] = []
        for each in range(number * BATCH, (number + 1) * BATCH):
            one = self._input(draw, each, made, oob)
            # An answer that overtakes others can't be told from theirs, unless it is known.
            apart = any(word in one.data for word in ALONE) or (oob and one.known is None and b"oob" in one.data)
            (alone if apart else together).append(one)
        groups = [(one,) for one in alone if b"quit" not in one.data]
        at = int(draw() * (len(together) + 1))
        groups = [tuple(together[:at]), *groups, tuple(together[at:]), *((one,) for one in alone if b"quit" in one.data)]
        return [
            Group(inputs, pick(draw, (0, 0, 0, 0.3, 1)), pick(draw, (0,) * 30 + (1, 1, 20)), draw())
            for inputs in groups
            if inputs
        ]

    def _of(self, view: View) -> Arguments:
        made = self._arguments.get(view.facts)
        if made is None:
            made = self._arguments[view.facts] = Arguments(view)
        return made

    def _input(self, draw: Draw, number: int, made: Arguments, oob: bool) -> Input:
        message, known = self._message(draw, number, made, oob)
        encode = _WIDE if draw() < 0.3 else _ASCII
        data = encode(message).encode("utf-8", "surrogatepass")
        if draw() < 0.8:
            return Input(number, data, known)
        for _ in range(pick(draw, (1, 1, 1, 2, 3))):
            data = mutate(draw, data)
        return Input(number, data, None)

    def _message(self, draw: Draw, number: int, made: Arguments, oob: bool) -> tuple[Any, Known | None]:
        roll = draw()
        if roll < 0.03:
            return anything(draw, 3), None
        if roll < 0.3:
            name, arguments = pick(draw, WORKS)
            if draw() < 0.2:
                arguments = {**made.make(draw, name), **arguments}
        else:
            name = pick(draw, made.names) if roll < 0.97 else pick(draw, ("nope", "", "query-statu", "\u00e9"))
            if name in RARE and draw() < 0.98:
                name = "query-status"
            arguments = made.make(draw, name)
        key = "execute" if draw() < 0.9 else "exec-oob"
        message: dict[str, Any] = {key: name}
        if arguments or draw() < 0.5:
            message["arguments"] = arguments
        overtakes = oob and key == "exec-oob"
        roll = draw()
        if overtakes:
            message["id"] = f"oob {number}"
        elif roll < 0.5:
            message["id"] = number
        elif roll < 0.8:
            message["id"] = anything(draw, 2)
        if draw() < 0.05:
            message[pick(draw, ("x", "control", "execute", "exec-oob"))] = anything(draw, 1)
        plain = set(message) <= {key, "arguments", "id"} and message[key] is name and (key == "execute" or oob)
        known = Known(name, "id" in message, message.get("id"), overtakes) if plain else None
        return message, known


def mutate(draw: Draw, data: bytes) -> bytes:
    """The bytes with one thing wrong, or nothing."""
    at = int(draw() * (len(data) + 1))
    to = min(len(data), at + pick(draw, (1, 1, 2, 5, 20)))
    kind = int(draw() * 7)
    if kind == 0:
        return data[:at] + data[to:]
    if kind == 1:
        return data[:at] + bytes([int(draw() * 256)]) + data[at:]
    if kind == 2:
        return data[:at] + bytes([int(draw() * 256)]) + data[at + 1 :]
    if kind == 3:
        return data[:at] + pick(draw, SCRAPS) + data[at:]
    if kind == 4:
        return data[:at] + data[at:to] * 2 + data[to:]
    if kind == 5:
        return data[:at]
    return data + pick(draw, (b"", b"\n", b"\r\n", b" ")) + data[at:]
