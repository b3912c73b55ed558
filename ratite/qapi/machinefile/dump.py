"""A machine as it stands, back into a machine file: canonical, every default written out; and documents as YAML text.

    State = {"machine": {"primary-target"}, "chardevs": {ID: ChardevBackend}, "blockdevs": {NAME: BlockdevOptions},
             "netdevs": {ID: Netdev}, "objects" and "devices": {ID: {"type": NAME, PROPERTY: value, …}},
             "wires" and "maps": as query-wiring answers them}

Backends are as the commands took them.  Ids are sorted, maps by address; equal machines give equal documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ratite.qapi.machinefile.declarations import SECTIONS, Declarations
from ratite.qapi.machinefile.expression import escaped
from ratite.qapi.machinefile.flat import links_of
from ratite.qapi.machinefile.schema import FORMAT

_PLACES = ("/objects/", "/machine/peripheral/", "/machine/unattached/", "/chardevs/", "/blockdevs/", "/netdevs/")
_PLAIN = re.compile(r"[A-Za-z/_$][A-Za-z0-9_./$()=+ -]*")
_KEY = re.compile(r"[A-Za-z/_$][A-Za-z0-9_./$()\[\]=+-]*")
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
_WIDTH = 110


def dump_document(state: Mapping[str, Any], declarations: Declarations) -> dict[str, Any]:
    """The document of a machine."""
    made: dict[str, Any] = {"ratite": FORMAT}
    if state["machine"]:
        made["machine"] = dict(state["machine"])
    ids = [name for section in ("objects", "devices") for name in state[section]]
    twice = {name for name in ids if ids.count(name) > 1}
    for name, section in SECTIONS.items():
        entries = {}
        for id, given in sorted(state[name].items()):
            entry = dict(given) if not section.union else _backend(declarations, section.union, given)
            for member in links_of(name, entry, declarations):
                if isinstance(entry.get(member), str):
                    entry[member] = _short(entry[member], twice)
            entries[id] = _written(entry)
        if entries:
            made[name] = entries
    made.update(_maps(state, twice))
    if state["wires"]:
        made["wires"] = {
            _end(wire["from"], wire["output"], "outputs", state, declarations): _end(
                wire["to"], wire["input"], "inputs", state, declarations
            )
            for wire in state["wires"]
        }
    return made


def _backend(declarations: Declarations, union: str, given: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = declarations.from_qmp(union, given)
    return {name: value for name, value in entry.items() if name not in ("id", "node-name")}


def _maps(state: Mapping[str, Any], twice: set[str]) -> dict[str, Any]:
    spaces: dict[str, dict[str, list[Any]]] = {}
    for row in sorted(state["maps"], key=lambda row: (row["space"], row["offset"], row["region"])):
        place = row["offset"] if not row["priority"] else {"offset": row["offset"], "priority": row["priority"]}
        space, region = escaped(_short(row["space"], set())), escaped(_short(row["region"], twice))
        spaces.setdefault(space, {}).setdefault(region, []).append(place)
    made = {
        space: {region: places[0] if len(places) == 1 else places for region, places in regions.items()}
        for space, regions in spaces.items()
    }
    return {"maps": made} if made else {}


def _short(path: str, twice: set[str]) -> str:
    """An id for a path, where it can mean nothing else."""
    place = next((place for place in _PLACES if path.startswith(place)), "")
    rest = path[len(place) :]
    if place in ("/chardevs/", "/blockdevs/", "/netdevs/") and "/" in rest:
        return path
    return path if rest.partition("/")[0] in twice else rest


def _end(owner: str, line: str, table: str, state: Mapping[str, Any], declarations: Declarations) -> str:
    """ID/LINE; the index is left out where there is only one such line."""
    name = owner.removeprefix("/machine/peripheral/").removeprefix("/machine/unattached/")
    group, _, index = line.partition("[")
    kind = state["devices"].get(name, {}).get("type", "")
    row = declarations.types.get(kind)
    alone = row is not None and row[table].get(group) == 1 and not row.get("computed-lines") and index == "0]"
    return escaped(f"{name}/{group if alone else line}")


def _written(value: Any) -> Any:
    """A value as the document has to say it."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {name: _written(each) for name, each in value.items()}
    return [_written(each) for each in value] if isinstance(value, list) else value


# -- text


def render(document: Mapping[str, Any]) -> str:
    """The document as YAML that a person may go on with: a line an entry while that is short, addresses in hex."""
    return "\n".join(_lines(document, ())) + "\n"


def _lines(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    pad = "  " * len(path)
    for name, each in value.items():
        if not path and name not in ("ratite", "description"):
            yield ""
        inner = (*path, name)
        flow = _flow(each, inner)
        head = f"{pad}{_key(name)}:"
        block = isinstance(each, dict) and each and (not path or (inner[0] in ("maps", "parts") and len(path) < 2))
        if isinstance(each, dict) and each and (block or len(head) + len(flow) > _WIDTH):
            yield head
            yield from _lines(each, inner)
        elif isinstance(each, list) and each and (not path or len(head) + len(flow) > _WIDTH):
            yield head
            yield from (f"{pad}  - {_flow(item, inner)}" for item in each)
        else:
            yield f"{head} {flow}"


def _flow(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name, True)}: {_flow(each, (*path, name))}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(each, path) for each in value)}]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return hex(value) if path[0] == "maps" and value > 9 and path[-1] != "priority" else str(value)
    if isinstance(value, str):
        plain = _KEY if path[0] == "wires" and len(path) == 2 else _PLAIN
        return value if plain.fullmatch(value) and value.lower() not in _WORDS and value[-1:] != " " else json.dumps(value)
    return json.dumps(value)


def _key(name: str, flow: bool = False) -> str:
    pattern = _PLAIN if flow else _KEY
    return name if pattern.fullmatch(name) and name.lower() not in _WORDS and name[-1:] != " " else json.dumps(name)
