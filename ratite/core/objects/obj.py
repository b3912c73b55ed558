"""`Obj`: everything in a machine is one, at a stable path made of the ids that the client gave.

Life cycle (`phase`), the same for CPUs, devices, memory, backends and address spaces:

    created ── configured ── wired ── realized ── unrealized
       new       properties   links     in use       gone
                 given        are
                              objects

    hook            called                              may fail with QmpError
    make_parts()    every property is given              yes; the object is dropped
    wire()          links are objects now; make          yes; what it made is undone by unwire()
                    lines and regions
    realize()       everything of the machine is wired   yes; the tree stays as it was
    check_wired()   the whole machine is wired, and      adds to a list of errors
                    once more before it is realized
    unrealize()     before it leaves the machine         no
    unwire()        after unrealize, or wiring failed    no
    reset()         the machine resets, and once after   no
                    realize
    post_load()     after load_state()                   no

Nothing here knows the machine's phases: `ratite.core.machine` drives the life cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.objects.props import Prop
from ratite.qapi.errors import DeviceNotFound, GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.machine import Machine

# Types of links to what chardev-add, blockdev-add and netdev_add make.
BACKENDS = ("chardev", "block-node", "netdev")
PHASES = ("created", "configured", "wired", "realized", "unrealized")


class Obj:
    """The root of all types."""

    TYPE: ClassVar[str] = "object"
    ABSTRACT: ClassVar[bool] = True
    # Which command makes it: "object" (object-add), "device" or "cpu" (device_add), "" (only the machine).
    KIND: ClassVar[str] = ""
    IMPLEMENTS: ClassVar[tuple[str, ...]] = ()
    HOTPLUG: ClassVar[bool] = True
    BUS: ClassVar[str] = ""
    TARGETS: ClassVar[tuple[str, ...]] = ()
    # Modules outside ratite that the type needs on this host ("fcntl"); without one it is listed as unavailable.
    REQUIRES: ClassVar[tuple[str, ...]] = ()
    INPUTS: ClassVar[Mapping[str, int | str]] = MappingProxyType({})
    OUTPUTS: ClassVar[Mapping[str, int | str]] = MappingProxyType({})
    PROPERTIES: ClassVar[Mapping[str, Prop]] = MappingProxyType({})
    TYPE_NAMES: ClassVar[frozenset[str]] = frozenset({"object"})

    machine: Machine

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        found = [(key, value) for key, value in own.items() if isinstance(value, Prop)]
        for value in tuple(own.values()):
            declare = getattr(type(value), "declare_props", None)
            if declare is not None:
                found.extend((prop.attr, prop) for prop in declare(value))
        merged: dict[str, Prop] = {}
        for base in reversed(cls.__mro__[1:]):
            if issubclass(base, Obj):
                merged.update(base.PROPERTIES)
        merged.update((prop.name, prop) for _, prop in found)
        for key, value in found:
            if own.get(key) is value:
                delattr(cls, key)
        cls.PROPERTIES = MappingProxyType(merged)
        for table in ("INPUTS", "OUTPUTS", "REGIONS"):
            if isinstance(own.get(table), dict):
                setattr(cls, table, MappingProxyType(own[table]))
        if "ABSTRACT" not in own:
            cls.ABSTRACT = False
        names: set[str] = {cls.TYPE, *cls.IMPLEMENTS}
        for base in cls.__mro__[1:]:
            names.update(getattr(base, "TYPE_NAMES", ()))
        cls.TYPE_NAMES = frozenset(names)

    def __init__(self, id: str) -> None:
        self.id = id
        self.parent: Obj | None = None
        self.children: dict[str, Obj] = {}
        self.phase = "created"
        # Whether it came when the machine was realized already.
        self.hotplugged = False
        # Properties that only this instance has (a CPU's registers).
        self.instance_properties: Mapping[str, Prop] = MappingProxyType({})
        self.link_texts: dict[str, str] = {}
        # Names that a client has set; a default that depends on other things looks here.
        self.given: set[str] = set()
        self.__dict__.update((prop.attr, prop.fresh()) for prop in self.PROPERTIES.values() if not prop.getter)

    def __repr__(self) -> str:
        return f"<{self.TYPE} {self.path} {self.phase}>"

    # -- place in the tree

    @property
    def path(self) -> str:
        """The object's canonical path: "/machine/peripheral/uart0"; "/" for the root."""
        if self.parent is None:
            return self.id if self.id.startswith("/") else f"/{self.id}"
        above = self.parent.path
        return f"/{self.id}" if above == "/" else f"{above}/{self.id}"

    def add_child(self, child: Obj) -> None:
        """Put `child` under this object; GenericError when the name is taken, by a child or a property."""
        if child.id in self.children or self.find_prop(child.id) is not None:
            raise GenericError(f"attempt to add duplicate property '{child.id}' to object (type '{self.TYPE}')")
        child.parent = self
        self.children[child.id] = child

    def remove_child(self, child: Obj) -> None:
        """Take `child` out of the tree."""
        del self.children[child.id]
        child.parent = None

    def child_named(self, name: str) -> Obj | None:
        """What a path finds under this object by `name`: a child, or what else goes by that name."""
        return self.children.get(name)

    def walk(self) -> Iterator[Obj]:
        """This object and everything under it, children by name."""
        yield self
        for name in sorted(self.children):
            yield from self.children[name].walk()

    def is_a(self, type_name: str) -> bool:
        """Whether the object is of the type, of one derived from it, or implements the interface."""
        return type_name in self.TYPE_NAMES

    # -- properties

    def properties(self) -> Iterable[Prop]:
        """Every property of this object, the type's first."""
        yield from self.PROPERTIES.values()
        yield from self.instance_properties.values()

    def find_prop(self, name: str) -> Prop | None:
        """The property's declaration, or None."""
        return self.PROPERTIES.get(name) or self.instance_properties.get(name)

    def prop(self, name: str) -> Prop:
        """The property's declaration; GenericError in QEMU's words when there is none."""
        prop = self.find_prop(name)
        if prop is None:
            raise GenericError(f"Property '{self.TYPE}.{name}' not found")
        return prop

    def get_property(self, name: str) -> Any:
        """The value as a client sees it: links as paths, bytes as hex."""
        prop = self.prop(name)
        value = self.raw_property(prop)
        if prop.link:
            return value.path if value is not None else self.link_texts.get(name, "")
        if isinstance(value, bytes | bytearray):
            return value.hex()
        if isinstance(value, list):
            return list(value)
        return value

    def raw_property(self, prop: Prop) -> Any:
        """The value as the object holds it."""
        return getattr(self, prop.getter)() if prop.getter else getattr(self, prop.attr)

    def given_as(self, prop: Prop) -> Any:
        """What a client has to give so that the same object arises, defaults applied; None: nothing, it is left open."""
        value = self.get_property(prop.name)
        return None if prop.link and not value else value

    def set_property(self, name: str, value: Any) -> None:
        """A client's set: checks existence, kind, phase, type and range, in this order.  GenericError else."""
        prop = self.prop(name)
        self._check_settable(prop)
        checked = prop.check(value, self.TYPE)
        self.check_property(name, checked)
        self.store_property(prop, checked)
        self.given.add(name)
        if self.phase in ("wired", "realized"):
            self.property_changed(name)

    def check_property(self, name: str, value: Any) -> None:
        """The type's own word on a value of the right type and range, before it is kept; GenericError."""

    def store_property(self, prop: Prop, value: Any) -> None:
        """Put a checked value where it belongs."""
        if prop.link:
            self.link_texts[prop.name] = value
        elif prop.setter:
            getattr(self, prop.setter)(value)
        else:
            setattr(self, prop.attr, value)

    def _check_settable(self, prop: Prop) -> None:
        if prop.kind in ("state", "debug") and not prop.setter:
            raise GenericError(f"Property '{self.TYPE}.{prop.name}' is not writable")
        if prop.kind == "config" and self.phase not in ("created", "configured"):
            what = "device" if self.KIND in ("device", "cpu") else "object"
            raise GenericError(
                f"Attempt to set property '{prop.name}' on {what} '{self.id}' (type '{self.TYPE}') "
                f"after it was {'realized' if self.phase == 'realized' else 'wired'}"
            )

    def configure(self, props: Mapping[str, Any]) -> None:
        """Set every given property, then the phase is `configured`; on an error some may be set: drop the object."""
        for name, value in props.items():
            self.set_property(name, value)
        self.phase = "configured"

    def missing(self) -> list[str]:
        """Names of the required properties that have no value yet."""
        return [
            prop.name
            for prop in self.PROPERTIES.values()
            if prop.required and not (self.link_texts.get(prop.name) if prop.link else prop.name in self.given)
        ]

    # -- parts: objects that come and go with this one, with fixed names under it

    def make_parts(self) -> None:
        """Make the objects that belong to this one (`add_child`); they live its life, each with its own hooks."""

    def before(self) -> tuple[Obj, ...]:
        """What must be wired, realized and reset before this object, besides what it links to."""
        return ()

    def unplug_request(self) -> bool:
        """A client wants the object gone: True, it may go at once; False, the guest was asked.  GenericError: it can't."""
        return True

    # -- run-time state, for saving and comparing

    def save_state(self) -> dict[str, Any]:
        """Every property of kind state, by name: ints, strs, bytes, lists of these; nothing shared with the object."""
        saved = {}
        for prop in self.properties():
            if prop.kind == "state":
                value = self.raw_property(prop)
                saved[prop.name] = bytes(value) if isinstance(value, bytearray) else _copied(value)
        return saved

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Put back what save_state() gave; GenericError for a name or value that doesn't fit (nothing is set then)."""
        checked = []
        for name, value in saved.items():
            prop = self.prop(name)
            if prop.kind != "state" or (prop.getter and not prop.setter):
                raise GenericError(f"Property '{self.TYPE}.{name}' is not part of the saved state")
            checked.append((prop, prop.check(value, self.TYPE)))
        for prop, value in checked:
            buffer = self.__dict__.get(prop.attr)
            if isinstance(buffer, bytearray):
                buffer[:] = value
            else:
                self.store_property(prop, value)
        self.post_load()

    # -- life cycle hooks

    def resolve(self, errors: list[str]) -> None:
        """Turn every link's text into the object it names; what is missing or ill-typed goes to `errors`."""
        for name in self.missing():
            errors.append(f"{self.path}: Parameter '{name}' is missing")
        for name, text in self.link_texts.items():
            if not text:
                continue
            prop = self.prop(name)
            try:
                setattr(self, prop.attr, self.link_target(prop, text))
            except DeviceNotFound as exc:
                backend = prop.link in BACKENDS
                errors.append(self.cannot_find(name, text) if backend else f"{self.path}: property '{name}': {exc.desc}")
            except QmpError as exc:
                errors.append(f"{self.path}: property '{name}': {exc.desc}")

    def cannot_find(self, name: str, text: str) -> str:
        """What a link to a backend that isn't there is refused with, in QEMU's words."""
        return f"Property '{self.TYPE}.{name}' can't find value '{text}'"

    def link_target(self, prop: Prop, text: str) -> Obj:
        """What a link of this object to `text` means; QmpError."""
        return self.machine.resolve_link(text, prop.link)

    def unresolve(self) -> None:
        """Forget the objects behind the links; their texts stay."""
        for prop in self.PROPERTIES.values():
            if prop.link:
                setattr(self, prop.attr, None)

    def wire(self) -> None:
        """Links are objects now: make lines and regions, check what can be checked.  QmpError when it can't be."""

    def unwire(self) -> None:
        """Undo wire()."""

    def check_wired(self, errors: list[str]) -> None:
        """The whole machine is wired: say what this object lacks (a cluster without a CPU)."""

    def realize(self) -> None:
        """Come into use.  QmpError when it can't; then what it took must be given back before raising."""

    def unrealize(self) -> None:
        """Leave use and give back what realize() took."""

    def reset(self) -> None:
        """To the state after power-on."""

    def post_load(self) -> None:
        """Make again what is derived from the state."""

    def power_button(self) -> None:
        """Somebody wants the guest to power off: a button is pressed, if this is one.  Called from realized on."""

    def property_changed(self, name: str) -> None:
        """A tunable was set while the object was wired or realized."""

    # -- what machine asks

    def hotplug_refusal(self, props: Mapping[str, Any]) -> str:
        """Why device_add with `props` into a started machine is refused; "": it isn't.  Nothing but `machine` is set."""
        return "" if self.HOTPLUG else f"Device '{self.TYPE}' does not support hotplugging"

    def host_memory(self) -> int:
        """Bytes of host memory that the object holds for the guest, or will once it is wired."""
        return 0

    def region(self, name: str = "") -> Any:
        """The memory region `name` ("" is the only one); exists from `wired` on.  GenericError when there is none."""
        raise GenericError(f"'{self.path}' (type '{self.TYPE}') has no memory region{f' {name!r}' if name else ''}")


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


class Container(Obj):
    """A place in the tree that only holds other objects."""

    TYPE = "container"
