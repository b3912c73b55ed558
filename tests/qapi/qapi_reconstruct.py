"""A QAPI schema, as text, that must introspect to a given dump: same entries, order and numbers.

Type names are lost in a dump, so they are synthetic (Type12).  Where a dump has gaps in its numbers or
types that nothing visible uses, something conditional used them; a definition under 'if': 'NEVER' stands
in for it.
"""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]
NEVER = "NEVER"


def qapi(value: object) -> str:
    """A value in the schema language."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, list):
        return "[" + ", ".join(map(qapi, value)) + "]"
    assert isinstance(value, dict)
    return "{" + ", ".join(f"{qapi(k)}: {qapi(v)}" for k, v in value.items()) + "}"


class Reconstruction:
    def __init__(self, dump: list[Entry]) -> None:
        self._dump = dump
        self._types = {e["name"]: e for e in dump if e["meta-type"] not in ("command", "event")}
        self._order = list(self._types)
        self._index = {name: index for index, name in enumerate(self._order)}
        self._used: set[str] = set()
        self._next_number = 0
        self._done = 0
        self._hidden = 0
        self._out: list[Entry] = []
        self._hidden_values: dict[str, list[str]] = {}
        self._exceptions: set[str] = set()

    def text(self) -> str:
        commands = [e for e in self._dump if e["meta-type"] in ("command", "event")]
        for entry in commands:
            self._command(entry)
        for entry in self._types.values():
            getattr(self, "_" + entry["meta-type"])(entry)
        for definition in self._out:
            for value in self._hidden_values.get(definition.get("enum", ""), []):
                definition["data"].append({"name": value, "if": NEVER})
        names = [e["name"] for e in commands]
        pragma = {
            "command-name-exceptions": names,
            "command-returns-exceptions": names,
            "member-name-exceptions": sorted(self._exceptions),
        }
        return "\n".join(qapi(item) for item in [{"pragma": pragma}, *self._out]) + "\n"

    # -- what is used when

    def _use(self, name: str) -> list[Any]:
        """Note a use; the hidden type references that must come just before it."""
        if name in self._used:
            return []
        hidden: list[Any] = []
        while self._done < self._index[name]:
            skipped = self._order[self._done]
            if skipped not in self._used:
                hidden += self._mark(skipped)
                hidden.append(self._reference(skipped))
            self._done += 1
        return hidden + self._mark(name)

    def _mark(self, name: str) -> list[Any]:
        hidden: list[Any] = []
        self._used.add(name)
        if name.startswith("["):
            element = name[1:-1]
            return [] if element in self._used else self._mark(element)
        if name.isdigit():
            while self._next_number < int(name):
                hidden.append(self._hidden_type())
                self._next_number += 1
            self._next_number += 1
        return hidden

    def _hidden_type(self) -> str:
        self._hidden += 1
        name = f"Hidden{self._hidden}"
        self._out.append({"struct": name, "data": {}, "if": NEVER})
        return name

    def _reference(self, name: str) -> Any:
        if name.startswith("["):
            return [self._reference(name[1:-1])]
        return f"Type{name}" if name.isdigit() else name

    def _fresh(self) -> str:
        self._hidden += 1
        return f"hidden-{self._hidden}"

    # -- entries

    def _command(self, entry: Entry) -> None:
        meta = entry["meta-type"]
        new: Entry = {meta: entry["name"]}
        for key, reference in (("data", "arg-type"), ("returns", "ret-type")):
            if reference in entry:
                for hidden in self._use(entry[reference]):
                    self._out.append({"command": self._fresh(), "returns": hidden, "if": NEVER})
                if entry[reference] != "0":
                    new[key] = self._reference(entry[reference])
        if "data" in new:
            new["boxed"] = True
        for key in ("allow-oob", "features"):
            if key in entry:
                new[key] = entry[key]
        self._out.append(new)

    def _builtin(self, entry: Entry) -> None:
        """Nothing to define."""

    def _array(self, entry: Entry) -> None:
        """Nothing to define."""

    def _enum(self, entry: Entry) -> None:
        name = self._reference(entry["name"])
        self._exceptions.add(name)
        data = [{k: m[k] for k in ("name", "features") if k in m} for m in entry["members"]]
        self._add({"enum": name, "data": data}, entry)

    def _alternate(self, entry: Entry) -> None:
        data = {}
        for index, member in enumerate(entry["members"]):
            for hidden in self._use(member["type"]):
                raise AssertionError(f"an alternate can't hide {hidden}")
            data[f"b{index}"] = self._reference(member["type"])
        self._add({"alternate": self._reference(entry["name"]), "data": data}, entry)

    def _object(self, entry: Entry) -> None:
        if entry["name"] == "0":
            return
        name = self._reference(entry["name"])
        self._exceptions.add(name)
        members: Entry = {}
        for member in entry["members"]:
            for hidden in self._use(member["type"]):
                members["*" + self._fresh()] = {"type": hidden, "if": NEVER}
            spec: Entry = {"type": self._reference(member["type"])}
            if "features" in member:
                spec["features"] = member["features"]
            members[("*" if "default" in member else "") + member["name"]] = spec
        if "tag" not in entry:
            self._add({"struct": name, "data": members}, entry)
            return
        enum = next(m["type"] for m in entry["members"] if m["name"] == entry["tag"])
        branches: Entry = {}
        for variant in entry["variants"]:
            for hidden in self._use(variant["type"]):
                case = self._fresh()
                branches[case] = {"type": hidden, "if": NEVER}
                self._hidden_values.setdefault(self._reference(enum), []).append(case)
            if variant["type"] != "0":
                branches[variant["case"]] = self._reference(variant["type"])
        self._add({"union": name, "base": members, "discriminator": entry["tag"], "data": branches}, entry)

    def _add(self, definition: Entry, entry: Entry) -> None:
        if "features" in entry:
            definition["features"] = entry["features"]
        self._out.append(definition)
