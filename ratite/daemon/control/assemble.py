"""Machines from machine files: compiled beside the loop, then sent to their instance as QMP commands, one after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratite.core.hostfiles import ConfinedFiles
from ratite.daemon.control import rpc
from ratite.daemon.control.qmplink import QmpRefusal
from ratite.daemon.control.rpc import RpcError

if TYPE_CHECKING:
    from ratite.daemon.control.instance import Instance
    from ratite.daemon.control.plane import ControlPlane

Commands = list[tuple[str, dict[str, Any]]]

INCLUDED_MAX = 4 << 20


async def compiled(plane: ControlPlane, text: str, given: object) -> Commands:
    """The commands of a machine file.  RpcError."""
    if not isinstance(given, Mapping):
        raise RpcError(rpc.INVALID_PARAMS, "Invalid parameter type for 'set', expected: object")
    return await asyncio.to_thread(_compile, plane, text, given)


def _compile(plane: ControlPlane, text: str, given: Mapping[str, Any]) -> Commands:
    from ratite.qapi import machinefile
    from ratite.qapi.machinefile import files as places

    files = ConfinedFiles(plane.settings.roots, ())

    def read(kind: str, name: str, origin: str) -> tuple[str, str]:
        if kind == "profile":
            return places.read(kind, name, origin)
        # Named as in a machine, since what includes it came over the wire.
        fd = files.open(name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # Of a directory no file is made, and then nobody else would close it.
            with os.fdopen(fd, encoding="utf-8", closefd=False) as file:
                return name, file.read(INCLUDED_MAX)
        finally:
            os.close(fd)

    try:
        made = machinefile.compile_text(text, given, places.declarations(), read)
    except machinefile.MachineFileError as error:
        problems = [dict(problem._asdict(), text=str(problem)) for problem in error.problems]
        raise RpcError(rpc.BAD_MACHINE_FILE, str(error.problems[0]), problems) from None
    return [(command, dict(arguments)) for command, arguments in made.commands]


async def assemble(instance: Instance, commands: Commands) -> None:
    """Execute a machine's commands.  RpcError for the first that is refused; LinkClosed."""
    for command, arguments in commands:
        try:
            await instance.link.execute(command, arguments)
        except QmpRefusal as error:
            data = {"class": error.error_class, "desc": error.desc, "execute": command, "arguments": arguments}
            raise RpcError(rpc.QMP_ERROR, f"{command}: {error.desc}", data) from None
