"""Irq lines: one output drives one input.  All calls are made under the machine lock.

A device declares `OUTPUTS = {"irq": 1}` and `INPUTS = {"irq": 32}`; a count may be the name of an
unsigned config property.  The end is spelt "irq[3]", or "irq" for index 0.  `Output.set(level)` calls the receiver
directly: everything is looked up when the line is connected.

    Output.set(1) ──> Input.deliver(1) ──> device.on_input("irq", 3, 1)

The level is kept at both ends, so a line connected late, a device plugged late and a reset get it again
(`replay`).  Fan-in and fan-out are devices: or-irq, split-irq.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.device import Device

_SPELLING = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)(?:\[(0|[1-9][0-9]{0,4})\])?")


class Output:
    """The driving end.  `level` is 0 or 1; `peer` the input it drives, or None."""

    __slots__ = ("_sink", "index", "level", "name", "owner", "peer")

    def __init__(self, owner: Device, name: str, index: int) -> None:
        self.owner = owner
        self.name = name
        self.index = index
        self.level = 0
        self.peer: Input | None = None
        self._sink: Callable[[int], None] | None = None

    def set(self, level: int | bool) -> None:
        """Drive the line; nothing happens when the level is as it was."""
        level = 1 if level else 0
        if level != self.level:
            self.level = level
            if self._sink is not None:
                self._sink(level)

    def pulse(self) -> None:
        """Up and down again: for edge-triggered receivers."""
        self.set(1)
        self.set(0)

    def connect(self, peer: Input) -> None:
        """Drive `peer` from now on, with the present level; GenericError when either end has a partner."""
        if self.peer is not None:
            raise GenericError(f"irq output '{self.spelling}' is already wired to '{self.peer.spelling}'")
        if peer.driver is not None:
            raise GenericError(f"irq input '{peer.spelling}' is already wired from '{peer.driver.spelling}'")
        self.owner.check_peer(self, peer)
        self.peer = peer
        peer.driver = self
        self._sink = peer.deliver
        if self.level != peer.level:
            peer.deliver(self.level)
        self.owner.connected(self)

    def disconnect(self) -> None:
        """Drive nothing; the input falls to 0."""
        peer = self.peer
        if peer is not None:
            self.peer = self._sink = None
            peer.driver = None
            if peer.level:
                peer.deliver(0)

    @property
    def spelling(self) -> str:
        """For messages and dumps: "/machine/peripheral/uart0 irq[0]"."""
        return f"{self.owner.path} {self.name}[{self.index}]"


class Input:
    """The receiving end.  `level` is what was delivered last; `driver` the output that drives it, or None."""

    __slots__ = ("_handler", "driver", "index", "level", "name", "owner")

    def __init__(self, owner: Device, name: str, index: int) -> None:
        self.owner = owner
        self.name = name
        self.index = index
        self.level = 0
        self.driver: Output | None = None
        self._handler: Callable[[int], None] | None = None

    def deliver(self, level: int) -> None:
        """A new level from outside; kept, and told to the device once it is realized."""
        self.level = level
        if self._handler is not None:
            self._handler(level)

    def enable(self) -> None:
        """The device is realized: tell it the present level if it isn't 0, and every change from now on."""
        self._handler = self.owner.input_handler(self.name, self.index)
        self.replay()

    def disable(self) -> None:
        """The device is going away: tell it nothing more."""
        self._handler = None

    def replay(self) -> None:
        """Tell the device the level again if it isn't 0 (after its reset)."""
        if self._handler is not None and self.level:
            self._handler(self.level)

    @property
    def spelling(self) -> str:
        """For messages and dumps: "/machine/peripheral/intc0 irq[3]"."""
        return f"{self.owner.path} {self.name}[{self.index}]"


def parse_end(text: str) -> tuple[str, int]:
    """"irq[3]" → ("irq", 3), "irq" → ("irq", 0); GenericError otherwise."""
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise GenericError(f"irq line '{text}' must be spelt NAME or NAME[INDEX]")
    return match[1], int(match[2] or 0)


_End = TypeVar("_End", "Input", "Output")


def find_end(lines: Mapping[str, list[_End]], owner: Device, text: str, what: str) -> _End:
    """The line of `owner` that `text` spells; GenericError naming what there is.  `what` is "input" or "output"."""
    name, index = parse_end(text)
    group = lines.get(name)
    if group is None:
        have = ", ".join(f"{key}[0..{len(v) - 1}]" if len(v) > 1 else key for key, v in lines.items() if v)
        who = f"'{owner.path}' (type '{owner.TYPE}')"
        raise GenericError(f"{who} has no irq {what} '{text}' (it has: {have or 'none'})")
    if index >= len(group):
        raise GenericError(
            f"irq {what} '{text}' of '{owner.path}' (type '{owner.TYPE}') must have an index below {len(group)}"
        )
    return group[index]
