"""How a machine is put together: the life cycle of its objects, irq wires and memory maps, all or nothing.

    phase created        add: created, configured only.  Wires and maps are kept as data; what they name needn't exist
    wire()               links, objects, wires, maps, checks: every error at once, or none and the phase is initialized
    phase initialized    add: goes on to wired.  Wires and maps take effect at once
    realize()            every object, or none and the phase stays
    phase ready          add: the whole life cycle of the object (hot plug), with the vCPUs parked

Every function runs on the owner thread under the machine lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ratite.core import log
from ratite.core.device import Device
from ratite.core.irq import parse_end
from ratite.core.memory.code import PAGE_BITS
from ratite.core.memory.flat import pieces_of
from ratite.core.objects.obj import Obj
from ratite.core.reset import in_order
from ratite.qapi.errors import GenericError, QmpError

if TYPE_CHECKING:
    from ratite.core.machine import Machine

CREATED, INITIALIZED, READY = "created", "initialized", "ready"

# As QEMU's; the bound is ours: ids stand in paths, messages and log lines.
_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,126}")
_ADDRESS_MAX = (1 << 64) - 1
PAGE = 1 << PAGE_BITS


class Wire(NamedTuple):
    """An irq wire as the client gave it: paths or ids, and the spelling of the ends."""

    source: str
    output: str
    target: str
    input: str


class Map(NamedTuple):
    """A region in an address space as the client gave it; `region` is "ID", "ID/NAME" or a path."""

    space: str
    region: str
    offset: int
    priority: int


def check_id(id: object) -> str:
    """An id as QEMU allows it, of at most 127 letters; GenericError in QEMU's words."""
    if not isinstance(id, str) or _ID.fullmatch(id) is None:
        raise GenericError("Parameter 'id' expects an identifier")
    return id


class Assembly:
    """See the module's head."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._tree = machine.tree
        self.wires: list[Wire] = []
        self.maps: list[Map] = []
        # What the names of those that are in effect meant when they took effect: another object may get the same id later.
        self._wired: dict[Wire, tuple[Device, Device]] = {}
        self._mapped: dict[Map, tuple[Obj, Obj, str]] = {}

    # -- adding and removing objects

    def add(self, obj: Obj, place: Obj, props: Mapping[str, Any]) -> None:
        """Configure `obj`, put it under `place` and take it as far as the machine is; QmpError: nothing changed."""
        machine = self._machine
        obj.machine = machine
        obj.configure(props)
        for name in obj.missing():
            raise GenericError(f"Parameter '{name}' is missing")
        obj.make_parts()
        for part in obj.walk():
            part.machine = machine
            part.phase = "configured"
        place.add_child(obj)
        try:
            if machine.phase == INITIALIZED:
                self._wire_one(obj)
            elif machine.phase == READY:
                with machine.quiesced():
                    self._plug(obj)
        except QmpError:
            place.remove_child(obj)
            raise

    def remove(self, obj: Obj) -> None:
        """Take `obj` out; its wires, and the maps of its regions or in it, go with it.  The caller checked its users."""
        machine = self._machine
        with machine.quiesced():
            parts = in_order(obj.walk())
            for part in parts:
                self._disconnect(part)
            for part in reversed(parts):
                if part.phase == "realized":
                    _quietly(part.unrealize)
                    part.phase = "wired"
            self._unwire_parts(parts)
            for part in parts:
                part.phase = "unrealized"
            if obj.parent is not None:
                obj.parent.remove_child(obj)

    def _disconnect(self, obj: Obj) -> None:
        if isinstance(obj, Device):
            for line in obj.all_inputs():
                line.disable()
        for spec in [w for w in self.wires if obj in self._devices(w)]:
            self.remove_wire(spec)
        for placed in [m for m in self.maps if obj in self._meant(m)[:2]]:
            self.remove_map(placed)

    def _wire_one(self, obj: Obj) -> list[Obj]:
        """Wire an object and its parts; gives them in order."""
        errors: list[str] = []
        for part in obj.walk():
            part.resolve(errors)
        parts = in_order(obj.walk())
        try:
            _raise_all(errors, f"'{obj.path}' can't be wired")
            for part in parts:
                _guard(part, part.wire)
                part.phase = "wired"
        except QmpError:
            self._unwire_parts(parts)
            raise
        return parts

    def _unwire_parts(self, parts: Sequence[Obj]) -> None:
        for part in reversed(parts):
            self._unwire_one(part)

    def _unwire_one(self, obj: Obj) -> None:
        _quietly(obj.unwire)
        obj.unresolve()
        obj.phase = "configured"

    def _plug(self, obj: Obj) -> None:
        parts = self._wire_one(obj)
        try:
            for part in parts:
                _guard(part, part.realize)
                part.phase = "realized"
                part.hotplugged = True
        except QmpError:
            for part in reversed([part for part in parts if part.phase == "realized"]):
                _quietly(part.unrealize)
            self._unwire_parts(parts)
            raise
        for part in parts:
            _enable(part)
        self._machine.reset_one(obj)

    # -- the whole machine

    def wire(self) -> None:
        """Phase created → wired, or one GenericError that lists everything that is wrong, and nothing changed."""
        errors: list[str] = []
        members = list(self._tree.members())
        broken: set[int] = set()
        for obj in members:
            before = len(errors)
            obj.resolve(errors)
            if len(errors) > before:
                broken.add(id(obj))
        for obj in in_order(members):
            if id(obj) not in broken:
                try:
                    _guard(obj, obj.wire)
                    obj.phase = "wired"
                    continue
                except QmpError as exc:
                    errors.append(f"{obj.path}: {exc.desc}")
                    broken.add(id(obj))
            # Its lines can be checked all the same, so that dangling wires are in the same error.
            if isinstance(obj, Device):
                _quietly(obj.make_lines)
        for wire in sorted(self.wires):
            self._collect(errors, f"irq wire {_text(wire)}", lambda wire=wire: self._connect(wire))  # type: ignore[misc]
        self._map_all(errors, broken)
        if not broken:
            for obj in members:
                obj.check_wired(errors)
        if errors:
            self.unwire()
            _raise_all(errors, "machine can't be wired")

    def unwire(self) -> None:
        """Back to phase created: no link, wire or map is in effect any more; all are kept as data."""
        members = in_order(self._tree.members())
        for spec in self.maps:
            self._unmap(spec)
        for obj in reversed(members):
            self._unwire_one(obj)
        self._wired.clear()

    def realize(self) -> None:
        """Realize everything, what is linked to first; QmpError: everything is wired as before."""
        errors: list[str] = []
        for obj in self._tree.members():
            # Things came and went since machine-wire.
            obj.check_wired(errors)
        _raise_all(errors, "machine can't be started")
        done: list[Obj] = []
        try:
            for obj in in_order(self._tree.members()):
                try:
                    _guard(obj, obj.realize)
                except QmpError as exc:
                    raise GenericError(f"{obj.path}: {exc.desc}") from exc
                obj.phase = "realized"
                done.append(obj)
        except QmpError:
            for obj in reversed(done):
                _quietly(obj.unrealize)
                obj.phase = "wired"
            raise
        for obj in done:
            _enable(obj)

    # -- irq wires

    def add_wire(self, spec: Wire) -> None:
        """Keep the wire, and connect it if the machine is wired; GenericError for an end that has a wire."""
        key_out, key_in = self._ends(spec)
        for other in self.wires:
            other_out, other_in = self._ends(other)
            if key_out == other_out:
                raise GenericError(f"irq output '{spec.output}' of '{spec.source}' is already wired ({_text(other)})")
            if key_in == other_in:
                raise GenericError(f"irq input '{spec.input}' of '{spec.target}' is already wired ({_text(other)})")
        if self._machine.phase != CREATED:
            self._connect(spec)
        self.wires.append(spec)

    def find_wire(self, spec: Wire) -> Wire:
        """The wire between these ends, however they are spelt; GenericError."""
        ends = self._ends(spec)
        for wire in self.wires:
            if self._ends(wire) == ends:
                return wire
        raise GenericError(f"irq wire {_text(spec)} not found")

    def wire_into(self, target: str, input: str) -> Wire:
        """The wire that ends in this input, however it is spelt; GenericError."""
        end = self._ends(Wire("", "none", target, input))[1]
        for wire in self.wires:
            if self._ends(wire)[1] == end:
                return wire
        raise GenericError(f"irq input '{input}' of '{target}' is not wired")

    def remove_wire(self, spec: Wire) -> None:
        """Take a wire out; the input falls to 0."""
        self.wires.remove(spec)
        connected = self._wired.pop(spec, None)
        if connected is not None:
            connected[0].out(spec.output).disconnect()

    def _connect(self, spec: Wire) -> None:
        source, target = self._device(spec.source), self._device(spec.target)
        source.out(spec.output).connect(target.inp(spec.input))
        self._wired[spec] = (source, target)

    def _devices(self, spec: Wire) -> tuple[Obj | None, Obj | None]:
        """The ends' devices."""
        return self._wired.get(spec) or (self._line_owner(spec.source), self._line_owner(spec.target))

    def _device(self, text: str) -> Device:
        obj = self._tree.resolve(text, _has_lines)
        if not isinstance(obj, Device):
            raise GenericError(f"'{obj.path}' (type '{obj.TYPE}') has no irq lines")
        return obj

    def _ends(self, spec: Wire) -> tuple[tuple[str, str, int], tuple[str, str, int]]:
        source, target = self._devices(spec)
        return (
            (_name(source, spec.source), *parse_end(spec.output)), (_name(target, spec.target), *parse_end(spec.input)),
        )  # fmt: skip

    def _line_owner(self, text: str) -> Obj | None:
        return self._tree.find(text, _has_lines)

    # -- memory maps

    def add_map(self, spec: Map) -> None:
        """Keep the map, and make it if the machine is wired; GenericError also when RAM would overlap something."""
        if not 0 <= spec.offset <= _ADDRESS_MAX:
            raise GenericError("Parameter 'offset' expects uint64")
        key = self._place(spec)
        if any(self._place(other) == key for other in self.maps):
            raise GenericError(f"'{spec.region}' is already mapped at {spec.offset:#x} of '{spec.space}'")
        if self._machine.phase != CREATED:
            with self._machine.quiesced():
                space = self._space(spec.space)
                before = {str(clash) for clash in space.clashes()}
                self._map(spec)
                fresh = [clash for clash in map(str, space.clashes()) if clash not in before]
                if fresh:
                    self._unmap(spec)
                    raise GenericError(fresh[0])
        self.maps.append(spec)

    def find_map(self, space: str, region: str, offset: int) -> Map:
        """The map, however its ends are spelt; GenericError."""
        key = self._place(Map(space, region, offset, 0))
        for spec in self.maps:
            if self._place(spec) == key:
                return spec
        raise GenericError(f"'{region}' is not mapped at {offset:#x} of '{space}'")

    def remove_map(self, spec: Map) -> None:
        """Take a map out."""
        with self._machine.quiesced():
            self.maps.remove(spec)
            self._unmap(spec)

    def mapped_in(self, obj: Obj) -> list[Map]:
        """The maps of the object's regions."""
        return [spec for spec in self.maps if self._meant(spec)[1] is obj]

    def mapped_into(self, space: object) -> list[tuple[Obj, tuple[str, int, int]]]:
        """What is mapped into the space: (owner, (name of the region, address, size)), in a canonical order."""
        found = []
        for spec in sorted(self.maps):
            placed, owner, part = self._meant(spec)
            if owner is None or placed is not space:
                continue
            with suppress(QmpError):
                region = owner.region(part)
                named = getattr(owner, "regions", {})
                name = next((name for name, other in named.items() if other is region), "")
                found.append((owner, (name, spec.offset, region.size)))
        return found

    def _map_all(self, errors: list[str], broken: set[int]) -> None:
        spaces = {}
        for spec in sorted(self.maps):
            place = f"map of '{spec.region}' at {spec.offset:#x} of '{spec.space}'"
            space, owner, _ = self._meant(spec)
            if id(owner) in broken or id(space) in broken:
                continue
            self._collect(errors, place, lambda spec=spec: self._map(spec))  # type: ignore[misc]
            if space is not None and space.is_a("address-space"):
                spaces[space.path] = space
        for _, space in sorted(spaces.items()):
            errors.extend(f"{space.path}: {clash}" for clash in space.clashes())  # type: ignore[attr-defined]

    def _map(self, spec: Map) -> None:
        space, (owner, name) = self._space(spec.space), self._region(spec.region)
        region: Any = owner.region(name)
        if spec.offset + region.size > space.root.size:
            raise GenericError(
                f"'{spec.region}' of {region.size:#x} bytes can't be mapped at {spec.offset:#x} of '{spec.space}': "
                f"it must end at or below {space.root.size:#x}, not at {spec.offset + region.size:#x}"
            )
        if any(piece.region.IS_RAM and piece.delta % PAGE for piece in pieces_of(region, spec.offset)):
            # Pages of the view are pages of the memory: code marks and what vCPUs keep of a page rest on it.
            raise GenericError(
                f"'{spec.region}' can't be mapped at {spec.offset:#x} of '{spec.space}': "
                f"memory must be at a multiple of {PAGE} bytes"
            )
        space.map(region, spec.offset, spec.priority)
        self._mapped[spec] = (space, owner, name)

    def _unmap(self, spec: Map) -> None:
        """Undo the map, if it was made."""
        made = self._mapped.pop(spec, None)
        if made is not None:
            space, owner, name = made
            space.unmap(owner.region(name), spec.offset)  # type: ignore[attr-defined]

    def _meant(self, spec: Map) -> tuple[Obj | None, Obj | None, str]:
        """(the space, the region's owner, the region's name there)."""
        return self._mapped.get(spec) or (self._find_space(spec.space), *self._split(spec.region))

    def _find_space(self, text: str) -> Obj | None:
        return self._tree.find(text, _is_space)

    def _space(self, text: str) -> Any:
        return self._tree.link_target(text, "address-space")

    def _region(self, text: str) -> tuple[Obj, str]:
        owner, name = self._split(text)
        return owner or self._tree.resolve(text, _has_regions), name

    def _split(self, text: str) -> tuple[Obj | None, str]:
        """"uart0/regs" → (uart0, "regs"), "uart0" → (uart0, "")."""
        whole = self._tree.find(text, _has_regions)
        if whole is not None or "/" not in text.lstrip("/"):
            return whole, ""
        owner, _, name = text.rpartition("/")
        return self._tree.find(owner, _has_regions), name

    def _place(self, spec: Map) -> tuple[str, str, str, int]:
        space, owner, name = self._meant(spec)
        return (_name(space, spec.space), _name(owner, spec.region), name, spec.offset)

    # -- for dumps

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """{"wires": [{from, output, to, input}], "maps": [{space, region, offset, priority}]}: canonical, sorted."""
        wires = []
        for (source, output, i), (target, input, j) in sorted(self._ends(wire) for wire in self.wires):
            wires.append({"from": source, "output": f"{output}[{i}]", "to": target, "input": f"{input}[{j}]"})
        maps = []
        for (space, owner, name, offset), priority in sorted((self._place(m), m.priority) for m in self.maps):
            region = f"{owner}/{name}" if name else owner
            maps.append({"space": space, "region": region, "offset": offset, "priority": priority})
        return {"wires": wires, "maps": maps}

    @staticmethod
    def _collect(errors: list[str], place: str, step: Callable[[], None]) -> None:
        try:
            step()
        except QmpError as exc:
            errors.append(f"{place}: {exc.desc}")


def _has_lines(obj: Obj) -> bool:
    return isinstance(obj, Device)


def _has_regions(obj: Obj) -> bool:
    return type(obj).region is not Obj.region


def _is_space(obj: Obj) -> bool:
    return obj.is_a("address-space")


def _name(obj: Obj | None, text: str) -> str:
    return text if obj is None else obj.path


def _enable(obj: Obj) -> None:
    if isinstance(obj, Device):
        for line in obj.all_inputs():
            _quietly(line.enable)


def _text(wire: Wire) -> str:
    return f"'{wire.source}' {wire.output} -> '{wire.target}' {wire.input}"


def _raise_all(errors: Sequence[str], head: str) -> None:
    if len(errors) == 1:
        raise GenericError(errors[0])
    if errors:
        raise GenericError(f"{head}, {len(errors)} errors: {'; '.join(errors)}")


def _guard(obj: Obj, step: Callable[[], None]) -> None:
    """A hook of an object: a fault of its author becomes an error for the client, with a log line."""
    try:
        step()
    except QmpError:
        raise
    except Exception as exc:
        log.error("object failed", path=obj.path, type=obj.TYPE, hook=step.__name__, exc_info=True)
        raise GenericError(f"'{obj.path}' (type '{obj.TYPE}') failed: {type(exc).__name__}: {exc}") from exc


def _quietly(step: Callable[[], None]) -> None:
    """A hook on the way out: a fault is logged and goes no further."""
    try:
        step()
    except Exception:
        log.error("object failed", hook=getattr(step, "__qualname__", ""), exc_info=True)
