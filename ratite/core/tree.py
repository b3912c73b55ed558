"""The composition tree: paths, links, listings, dumps.

    /                       container
    /machine                what the machine itself has
    /machine/peripheral     devices and CPUs, by id (device_add)
    /machine/peripheral-anon   the QEMU personality's devices without an id
    /machine/unattached     there, what the machine type is made of, by id; only once there is something
    /objects                backends, clusters, spaces, by id (object-add)
    /chardevs               character backends, by id (chardev-add)
    /blockdevs              block nodes, by node-name (blockdev-add)
    /netdevs                network backends, by id (netdev_add)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ratite.core.objects.obj import Container, Obj
from ratite.qapi.errors import DeviceNotFound, GenericError


class Tree:
    """The tree of one machine; `node` is the object at /machine, `backends` hold those of the host, by kind."""

    def __init__(self, node: Obj, *backends: Obj) -> None:
        self.root = Container("/")
        self.node = node
        self.objects = Container("objects")
        self.peripheral = Container("peripheral")
        self.anonymous = Container("peripheral-anon")
        self.unattached = Container("unattached")
        for child in (node, self.objects, *backends):
            self.root.add_child(child)
        for child in (self.peripheral, self.anonymous):
            node.add_child(child)
        # Where an id without a path is looked for.
        self._places = (self.objects, self.peripheral, *backends, self.anonymous, self.unattached)

    def find(self, path: str, fits: Callable[[Obj], bool] | None = None) -> Obj | None:
        """The object at an absolute path, or the only one with this id (of those that `fits` takes); None."""
        if not path.startswith("/"):
            found = self.by_id(path)
            if fits is not None and len(found) > 1:
                found = [obj for obj in found if fits(obj)]
            return found[0] if len(found) == 1 else None
        at: Obj | None = self.root
        for name in path.split("/"):
            if name and at is not None:
                at = at.child_named(name)
        return at

    def resolve(self, path: str, fits: Callable[[Obj], bool] | None = None) -> Obj:
        """As find; DeviceNotFound in QEMU's words, GenericError for an id that may mean several objects."""
        found = self.find(path, fits)
        if found is None:
            several = [] if path.startswith("/") else self.by_id(path)
            if len(several) > 1:
                raise _ambiguous(path, several)
            raise DeviceNotFound(f"Device '{path}' not found")
        return found

    def by_id(self, id: str) -> list[Obj]:
        """Everything that a client gave this id; the same id may stand in different places."""
        return [place.children[id] for place in self._places if id in place.children]

    def link_target(self, text: str, type_name: str) -> Obj:
        """What a link of this type to `text` (path or id) means; DeviceNotFound, GenericError when ill-typed."""
        if text.startswith("/"):
            found = [self.resolve(text)]
        else:
            found = self.by_id(text)
            fitting = [obj for obj in found if obj.is_a(type_name)]
            # Parts of objects have no id that a client gave: they are found by name where nothing else fits.
            fitting = fitting or [obj for obj in self.members() if obj.id == text and obj.is_a(type_name)]
            found = fitting or found
        if not found:
            raise DeviceNotFound(f"Device '{text}' not found")
        if not found[0].is_a(type_name):
            raise GenericError(f"'{found[0].path}' must be of type '{type_name}', not '{found[0].TYPE}'")
        if len(found) > 1:
            raise _ambiguous(text, found)
        return found[0]

    def in_order_of_making(self) -> Iterator[Obj]:
        """Everything made by device_add, with its parts: the machine type's own first, then each place's, the oldest first."""
        for place in (self.unattached, self.anonymous, self.peripheral):
            for top in place.children.values():
                yield from top.walk()

    def members(self) -> Iterator[Obj]:
        """Every object made by object-add and device_add (a chardev has a life of its own)."""
        for place in (self.unattached, self.anonymous, self.peripheral, self.objects):
            for name in sorted(place.children):
                yield from place.children[name].walk()

    def users_of(self, target: Obj) -> list[tuple[Obj, str]]:
        """(object, property) of every link to `target`: those that are only texts yet and those left open, too."""
        users = []
        for obj in self.members():
            for prop in obj.PROPERTIES.values():
                if not prop.link:
                    continue
                linked, text = obj.raw_property(prop), obj.link_texts.get(prop.name)
                if linked is None and text:
                    linked = self._meant(text, prop.link)
                if linked is target:
                    users.append((obj, prop.name))
        return users

    def _meant(self, text: str, type_name: str) -> Obj | None:
        try:
            return self.link_target(text, type_name)
        except (DeviceNotFound, GenericError):
            return None

    def listing(self, path: str) -> list[dict[str, str]]:
        """qom-list: [{"name", "type"}]; types of children and links as "child<ns16550>", "link<chardev>"."""
        obj = self.resolve(path)
        rows = [{"name": "type", "type": "string"}]
        rows += [{"name": prop.name, "type": prop.type_name} for prop in obj.properties()]
        rows += [{"name": name, "type": f"child<{child.TYPE}>"} for name, child in sorted(obj.children.items())]
        return rows

    def get(self, path: str, name: str) -> Any:
        """qom-get: a property's value, "type", or a child's path."""
        obj = self.resolve(path)
        if name == "type":
            return obj.TYPE
        if name in obj.children:
            return obj.children[name].path
        return obj.get_property(name)

    def dump(self, kinds: tuple[str, ...] = ("config", "tunable", "state", "debug")) -> dict[str, Any]:
        """{path: {"type", "phase", "properties": {name: value}}}, paths and names sorted."""
        rows: dict[str, Any] = {}
        for obj in self.root.walk():
            values = {prop.name: obj.get_property(prop.name) for prop in obj.properties() if prop.kind in kinds}
            rows[obj.path] = {"type": obj.TYPE, "phase": obj.phase, "properties": dict(sorted(values.items()))}
        return rows


def _ambiguous(text: str, found: list[Obj]) -> GenericError:
    return GenericError(f"'{text}' may mean {' or '.join(obj.path for obj in found)}: give the path")
