"""Options into a `Start`: settings at once, what makes the machine when everything is read, so that order means nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ratite.daemon.personality.line import Line, in_order
from ratite.daemon.personality.options import LOG_CODE
from ratite.daemon.personality.readconfig import read_config
from ratite.daemon.personality.settings import SETTINGS
from ratite.daemon.personality.start import Start, Step
from ratite.daemon.personality.syntax import CommandLineError
from ratite.daemon.personality.translate_backends import (
    translate_blockdevs,
    translate_chardevs,
    translate_monitors,
    translate_networks,
    translate_serials,
)
from ratite.daemon.personality.translate_devices import apply_globals, translate_devices, translate_objects
from ratite.daemon.personality.translate_machine import choose_machine, translate_machine


def translate(line: Line) -> Start:
    """What a command line comes to.  CommandLineError."""
    for one in line.of("readconfig"):
        with one.named():
            line.given += read_config(one.value)
    for one in line.given:
        setting = SETTINGS.get(one.option.key)
        if setting is not None:
            with one.named():
                setting(line.start, one)
    properties = choose_machine(line)
    translate_chardevs(line)
    serials = translate_serials(line)
    translate_monitors(line)
    translate_objects(line)
    translate_blockdevs(line)
    translate_networks(line)
    board = translate_machine(line, properties, serials)
    translate_devices(line, board)
    apply_globals(line, board)
    if board is not None and any(LOG_CODE in one.value.split(",") for one in line.of("d")):
        for step in board.cpus():
            step.arguments["log-code"] = True
    line.start.steps[:] = in_order(line.start.steps)
    if board is not None:
        line.start.board = board.steps
    if line.start.background:
        _check_background(line.start.steps)
    return line.start


def _check_background(steps: Sequence[Step]) -> None:
    """Nobody sits at the standard input and output of what goes into the background."""
    for step in steps:
        if step.command == "chardev-add" and step.arguments["backend"]["type"] == "stdio":
            raise CommandLineError(f"{step.written}: cannot use stdio with -daemonize")
