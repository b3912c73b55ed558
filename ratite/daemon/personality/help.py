"""What `help` as an option's value (or the end of it) prints, and -help and -version; nothing is started then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ratite.daemon.personality.options import LOG_ITEMS, usage
from ratite.daemon.personality.syntax import pairs

if TYPE_CHECKING:
    from ratite.daemon.personality.commandline import Given
    from ratite.daemon.personality.line import Line

WORDS = ("help", "?")
# Types of a group's parameters, as QEMU's help calls them.
_GROUP_TYPES = (("string", "str"), ("boolean", "bool (on/off)"), ("number", "num"), ("size", "size"))
# Sections of -device help, by the kind of type.
_SECTIONS = (("cpu", "CPU devices"), ("device", "Misc devices"))


def help_of(line: Line) -> str | None:
    """The text that the first option which asks for help gets; None if none does.  CommandLineError."""
    for given in line.given:
        key = given.option.key
        if key == "help":
            return f"{version_text()}{usage(line.start.program)}"
        if key == "version":
            return version_text()
        items = pairs(given.value, "value") if given.option.metavar and not given.value.startswith("{") else []
        asked = [item for item in items if item[0] in WORDS or item[1] in WORDS]
        if asked and (text := _help(line, given, items)) is not None:
            return text
    return None


def version_text() -> str:
    """What -version prints."""
    from ratite.daemon.daemon import version

    told = version()
    number = "{major}.{minor}.{micro}".format(**told["qemu"])
    return f"QEMU emulator version {number} ({told['package']})\n"


def _help(line: Line, given: Given, items: list[tuple[str, str]]) -> str | None:
    name = items[0][1] if len(items) > 1 else ""
    key = given.option.key
    if key in ("device", "object"):
        return _types(line, given, name)
    if key == "machine":
        return _machine(line, name) if name else _machines(line)
    if key == "cpu":
        from ratite.daemon.personality.translate_machine import cpu_models

        return _list("Available CPUs:", cpu_models(line))
    if key == "accel":
        rows = line.registry.accelerators()
        return "Accelerators supported in QEMU binary:\n" + "".join(f"{row.get('alias', each)}\n" for each, row in rows.items())
    if key in ("chardev", "netdev", "nic") and not name:
        return _backends(line, key)
    if key == "d":
        return "Log items (comma separated):\n" + "".join(f"{item:<15} {text}\n" for item, text in LOG_ITEMS.items())
    if key in ("display", "vga", "audiodev"):
        return "none\n"
    if given.option.parameters:
        types = dict(_GROUP_TYPES)
        members = sorted((each, types[kind]) for each, kind in given.option.parameters.items())
        return f"{given.option.group or key} options:\n" + "".join(f"  {each}=<{kind}>\n" for each, kind in members)
    return None


def _machines(line: Line) -> str:
    from ratite.daemon.personality.machines import types_of

    text = "Supported machines are:\n"
    for kind in types_of(line.target):
        notes = " (default)" if line.target in kind.get("default-of", ()) else ""
        notes += " (deprecated)" if line.target in kind.get("deprecated-of", ()) else ""
        text += f"{kind.name:<20} {kind.description}{notes}\n"
    return text


def _machine(line: Line, name: str) -> str:
    from ratite.daemon.personality.machines import choose, rows_of

    row = rows_of(line.target)[choose(name, line.target).qom_type]
    return _properties(row["name"], row["properties"])


def _types(line: Line, given: Given, name: str) -> str:
    kinds = ("object",) if given.option.key == "object" else ("device", "cpu")
    rows = [
        row for row in line.registry.types(abstract=False)
        if row.kind in kinds and (not row.data["targets"] or line.target in row.data["targets"])
    ]  # fmt: skip
    if name:
        found = next((row for row in rows if row.name == name), None)
        if found is None:
            wrong = "Device '{}' not found" if kinds[0] == "device" else "Parameter 'qom-type' does not accept value '{}'"
            raise given.error(wrong.format(name))
        return _properties(name, [row for row in found.properties if row["kind"] in ("config", "tunable")])
    if kinds[0] == "object":
        return _list("List of user creatable objects:", _shown(line, "ObjectType"))
    text = ""
    for kind, title in _SECTIONS:
        text += ("\n" if text else "") + f"{title}:\n"
        for row in rows:
            if row.kind == kind:
                text += f'name "{row.name}"' + (f", bus {row.data['bus']}\n" if row.data["bus"] else "\n")
    return text


def _properties(name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    text = f"{name} options:\n"
    for row in sorted(rows, key=lambda row: str(row["name"])):
        kind = f"link<{row['link']}>" if row.get("link") else row["type"]
        left = f"  {row['name']}=<{kind}>"
        default = row.get("default")
        shown = {True: "on", False: "off"}.get(default, default) if isinstance(default, bool) else default
        more = row.get("text", "") + (f" (default: {shown})" if shown not in (None, "") else "")
        text += f"{left:<24} - {more}\n" if more else f"{left}\n"
    return text


def _backends(line: Line, key: str) -> str:
    if key == "chardev":
        return _list("Available chardev backend types: ", _shown(line, "ChardevBackendKind"))
    return "Available netdev backend types:\n" + "".join(f"{name}\n" for name in _shown(line, "NetClientDriver"))


def _shown(line: Line, enum: str) -> list[str]:
    """The values of an enum of the schema that the personality's view has."""
    from ratite.qapi.resolved import holds
    from ratite.qapi.views import fact_of_target

    facts = frozenset({"QEMU", fact_of_target(line.target)})
    return [str(value["name"]) for value in line.schema.get(enum)["members"] if holds(value.get("if"), facts)]


def _list(title: str, names: Iterable[str]) -> str:
    return f"{title}\n" + "".join(f"  {name}\n" for name in sorted(names))
