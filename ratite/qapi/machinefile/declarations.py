"""What a machine file may name: the registry's types and the backends of the QAPI schema, as plain data.

`SECTIONS` are the parts of a file that hold things by their id.  An entry says by `type` what the thing is; its other members
are the type's properties, or the members of the QAPI union that the section's command takes, flat: the tag is always called
`type`, and what QAPI keeps one level down in `data` stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ratite.qapi.resolved import EMPTY, ResolvedSchema, element_type, holds

Row = Mapping[str, Any]

# Letters of an id.
ID_MAX = 127
# What a file can say is said for ratite's own views.
FACTS = frozenset({"RATITE"})


class Section(NamedTuple):
    """`command` makes one; `union` is its QAPI type, "": registry types of `kinds`; `id` and `tag`: the command's names."""

    name: str
    command: str
    union: str
    kinds: tuple[str, ...]
    id: str
    tag: str
    text: str


# In the order in which a machine is made.
SECTIONS: Mapping[str, Section] = MappingProxyType(
    {
        section.name: section
        for section in (
            Section("chardevs", "chardev-add", "ChardevBackend", (), "id", "type", "character backends"),
            Section("blockdevs", "blockdev-add", "BlockdevOptions", (), "node-name", "driver", "block nodes"),
            Section("netdevs", "netdev_add", "Netdev", (), "id", "type", "network backends"),
            Section("objects", "object-add", "", ("object",), "id", "qom-type", "memory, address spaces, clusters, backends"),
            Section("devices", "device_add", "", ("device", "cpu"), "id", "driver", "CPUs and devices"),
        )
    }
)
# Members of an entry that the section gives otherwise.
_TAKEN = frozenset({"id", "type", "driver", "qom-type", "node-name"})


class Declarations:
    """Types and targets as in `ratite/manifest.json` (rows: core/objects/describe.py), and the resolved QAPI schema."""

    def __init__(self, types: Mapping[str, Row], targets: Mapping[str, Row], schema: ResolvedSchema) -> None:
        self.types = types
        self.targets = targets
        self.schema = schema

    def is_a(self, name: str, base: str) -> bool:
        """Whether the type is `base`, derives from it or implements it."""
        row = self.types.get(name)
        while row is not None:
            if row["name"] == base or base in row["implements"]:
                return True
            row = self.types.get(row["parent"])
        return False

    def kinds(self, section: Section) -> Mapping[str, Row]:
        """The types of a section by name: registry rows, or branches of its union."""
        if not section.union:
            rows = self.types.items()
            return {name: row for name, row in sorted(rows) if row["kind"] in section.kinds and not row["abstract"]}
        return {branch["name"]: branch for branch in self._branches(section.union)}

    def properties(self, name: str) -> Iterator[Row]:
        """What a client may set on a type of the registry."""
        for prop in self.types[name]["properties"]:
            if prop["kind"] in ("config", "tunable") and prop["name"] not in _TAKEN:
                yield prop

    # -- QAPI's objects, flat

    def _branches(self, union: str) -> list[Row]:
        return [branch for branch in self.schema.get(union)["branches"] if holds(branch.get("if"), FACTS)]

    def branch(self, union: str, tag: str) -> str:
        """The object type whose members stand beside the tag: what is behind a lone member `data`, the branch itself else."""
        branch, inner = self._branch_of(union, tag)
        return inner or branch

    def _branch_of(self, union: str, tag: str) -> tuple[str, str]:
        """(the branch's type, what that has behind `data` or "")."""
        name = str(next(branch["type"] for branch in self._branches(union) if branch["name"] == tag))
        return name, self._behind_data(name)

    def _behind_data(self, name: str) -> str:
        members = self.schema.members(name)
        return str(members[0]["type"]) if [member["name"] for member in members] == ["data"] else ""

    def members(self, name: str, tag: str = "") -> list[Row]:
        """The members of a struct, or of a union's branch with the common ones; without the tag."""
        definition = self.schema.get(name)
        discriminator = definition.get("discriminator")
        found: list[Row] = [
            {"text": self._text(name, member["name"]), **member}
            for member in self.schema.members(name)
            if member["name"] != discriminator and holds(member.get("if"), FACTS)
        ]
        if tag and (branch := self.branch(name, tag)) != EMPTY:
            found += self.members(branch)
        return found

    def entry_members(self, section: Section, tag: str) -> list[Row]:
        """What may stand beside `type: TAG` in a section with a union."""
        return [member for member in self.members(section.union, tag) if member["name"] not in _TAKEN]

    def _text(self, name: str, member: str) -> str:
        owner: Any = self.schema.get(name)
        while owner is not None:
            text = owner.get("doc", {}).get("members", {}).get(member)
            if text:
                return str(text)
            owner = self.schema.get(owner["base"]) if "base" in owner else None
        return ""

    def to_qmp(self, type_name: str, value: Any) -> Any:
        """A checked value as the command takes it: tags and `data` as QAPI has them."""
        return self._through(type_name, value, self._union_to_qmp)

    def from_qmp(self, type_name: str, value: Any) -> Any:
        """The other way round."""
        return self._through(type_name, value, self._union_from_qmp)

    def _through(self, type_name: str, value: Any, union: Callable[[str, Row, Row], Row]) -> Any:
        """`value` with `union(type, its definition, value)` in the place of each union."""
        element = element_type(type_name)
        if element is not None:
            return [self._through(element, each, union) for each in value]
        definition = self.schema.get(type_name) if type_name in self.schema else None
        if definition is None or not isinstance(value, dict):
            return value
        if definition["meta"] == "alternate":
            return self._through(self._object_of(definition), value, union)
        if definition["meta"] != "union":
            return self._converted(type_name, value, lambda name, each: self._through(name, each, union))
        return union(type_name, definition, value)

    def _union_to_qmp(self, type_name: str, definition: Row, value: Row) -> Row:
        tag = value["type"]
        common = {member["name"] for member in self.schema.members(type_name)}
        own = {name: each for name, each in value.items() if name != "type" and name not in common}
        made = {definition["discriminator"]: tag, **self._converted(type_name, value, self.to_qmp, common)}
        branch, inner = self._branch_of(type_name, tag)
        inside = self._converted(inner or branch, own, self.to_qmp)
        return {**made, "data": inside} if inner else {**made, **inside}

    def _union_from_qmp(self, type_name: str, definition: Row, value: Row) -> Row:
        value = dict(value)
        tag = value.pop(definition["discriminator"])
        common = {member["name"] for member in self.schema.members(type_name)}
        made = {"type": tag, **self._converted(type_name, value, self.from_qmp, common)}
        branch, inner = self._branch_of(type_name, tag)
        # A client may leave out an empty `data`.
        own = value.get("data", {}) if inner else {name: each for name, each in value.items() if name not in common}
        return {**made, **self._converted(inner or branch, own, self.from_qmp)}

    def _object_of(self, alternate: Row) -> str:
        names = (str(branch["type"]) for branch in alternate["branches"])
        return next(name for name in names if name in self.schema and self.schema.get(name)["meta"] in ("struct", "union"))

    def _converted(self, type_name: str, value: Row, convert: Any, only: set[str] | None = None) -> dict[str, Any]:
        types = {member["name"]: member["type"] for member in self.schema.members(type_name)} if type_name != EMPTY else {}
        return {
            name: convert(types.get(name, "any"), each)
            for name, each in value.items()
            if name != "type" and (only is None or name in only)
        }
