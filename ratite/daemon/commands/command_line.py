"""The options of the program that is stood in for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.dispatch import Context, command
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.daemon.personality.options import Option

# Types of a machine file's parameters, as options call them.
_TYPES = (("bool", "boolean"), ("int", "number"), ("size", "size"))


@command("query-command-line-options")
def query_command_line_options(ctx: Context, arguments: dict[str, Any]) -> object:
    """Those that have parameters."""
    from ratite.daemon.personality.options import OPTIONS

    wanted = arguments.get("option")
    found = [
        {"option": option.group, "parameters": _parameters(ctx, option)}
        for option in OPTIONS
        if option.group and wanted in (None, option.group)
    ]
    if wanted is not None and not found:
        raise GenericError("invalid option name: " + wanted)
    return found


def _parameters(ctx: Context, option: Option) -> list[dict[str, str]]:
    from ratite.daemon.personality.machines import EVERY

    types = dict(option.parameters)
    if option.key == "machine":
        # Those of any machine there is, as QEMU merges them.
        types |= {"type": "string", "memory-backend": "string", "dumpdtb": "string", **dict.fromkeys(EVERY, "boolean")}
        for kind in ctx.daemon.machine_types(ctx.view.targets[0]) if ctx.view.targets else ():
            types |= {name: dict(_TYPES).get(row["type"], "string") for name, row in kind.properties.items()}
            types |= {"firmware" if name == "bios" else name: "string" for name in kind.get("aliases", {})}
    return [{"name": name, "type": kind} for name, kind in types.items()]
