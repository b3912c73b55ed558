"""-numa: NUMA nodes, distances between them, CPUs in them."""

from __future__ import annotations

from typing import Any

from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.line import Line
from ratite.daemon.personality.start import Step
from ratite.daemon.personality.syntax import CommandLineError, number_of, pairs
from ratite.daemon.personality.values import typed


def translate_numa(line: Line) -> None:
    """The commands for the options.  CommandLineError."""
    for given in line.of("numa"):
        with given.named():
            line.start.nodes.append(Step("set-numa-node", _arguments(line, given), given.written))


def _arguments(line: Line, given: Given) -> dict[str, Any]:
    texts: dict[str, Any] = {}
    cpus: list[int] = []
    for key, text in pairs(given.value, given.option.implied):
        if key == "cpus":
            cpus += _range(text)
        elif key == "mem":
            raise CommandLineError("mem: a node's memory is an object, named by memdev")
        else:
            texts[key] = text
    arguments = typed(line.schema, "NumaOptions", texts)
    return {**arguments, "cpus": cpus} if cpus else arguments


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    low, high = number_of(first), number_of(last or first)
    if low is None or high is None or not 0 <= low <= high < 1 << 16:
        raise CommandLineError("Parameter 'cpus' expects an uint16 value or range")
    return list(range(low, high + 1))
