"""A device tree into a machine file, as far as the devices in it are known.

A type declares what it answers to (`FROM_FDT`, core/device.py tells the rules; a target's row does so for CPUs): nothing
here knows a board or a chip.  What no type answers to, and what a tree says that has no counterpart, is listed.
Read after the Devicetree Specification 0.4; PCI ranges and interrupt maps after IEEE 1275's PCI binding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ratite.qapi.errors import GenericError
from ratite.qapi.fdt import Node, parse
from ratite.qapi.machinefile.declarations import Declarations
from ratite.qapi.machinefile.expression import escaped
from ratite.qapi.machinefile.problems import printable
from ratite.qapi.machinefile.schema import FORMAT
from ratite.qapi.resolved import INTEGER_RANGES

BLOB_MAX = 1 << 20
NODES_MAX = 8192
RANGES_MAX = 256  # rows of one node's ranges
UNKNOWN_MAX = 1000
_ADDRESSES = 1 << 64
_NOWHERE = 0xFFFFFFFF  # an interrupt that isn't there
_VIEW, _CLUSTER, _CONSOLE = "view", "cluster", "console"


class FromDtb(NamedTuple):
    """The machine file, and what of the tree isn't in it: one line each, with the node's path."""

    document: dict[str, Any]
    unknown: list[str]


def from_dtb(blob: bytes, declarations: Declarations, name: str = "<dtb>") -> FromDtb:
    """What a flattened tree describes; GenericError when it isn't one."""
    if len(blob) > BLOB_MAX:
        raise GenericError(f"a device tree must have at most {BLOB_MAX} bytes, not {len(blob)}")
    root, _ = parse(name, blob)
    return _Reading(root, declarations).read()


class _Place(NamedTuple):
    """A node with what it inherits: cells of its parent, how bus addresses become the CPU's, who takes its interrupts."""

    path: str
    node: Node
    cells: tuple[int, int]
    ranges: tuple[tuple[int, int, int], ...] | None
    parent: int


class _Made(NamedTuple):
    """A thing that was made from a node."""

    id: str
    type: str
    rule: Mapping[str, Any]


def words_of(data: bytes) -> list[int]:
    """Big-endian cells."""
    return list(struct.unpack(f">{len(data) // 4}I", data[: len(data) // 4 * 4]))


def texts_of(data: bytes) -> list[str]:
    """A list of strings."""
    return [text.decode("latin-1") for text in data.split(b"\0") if text]


def _joined(cells: Sequence[int]) -> int:
    return sum(cell << 32 * n for n, cell in enumerate(reversed(cells)))


class _Reading:
    def __init__(self, root: Node, declarations: Declarations) -> None:
        self._root = root
        self._declarations = declarations
        self._places: list[_Place] = []
        self._by_handle: dict[int, _Place] = {}
        self._made: dict[str, list[_Made]] = {}
        self._unknown: list[str] = []
        self._ids: set[str] = {_VIEW, _CLUSTER, _CONSOLE}
        self._same: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._driven: set[str] = set()
        self._target = ""
        self._cpus: list[_Place] = []
        self._big = False
        self._objects: dict[str, Any] = {_VIEW: {"type": "address-space"}}
        self._devices: dict[str, Any] = {}
        self._maps: dict[str, int] = {}
        self._wires: dict[str, str] = {}
        self._rules = [
            (kind, rule) for kind, row in declarations.types.items() if not row["abstract"] for rule in row.get("from-fdt", ())
        ]

    def read(self) -> FromDtb:
        self._walk("", self._root, (2, 1), (), 0)
        self._read_cpus()
        for place in self._places:
            self._device(place)
        for place in self._places:
            for made in self._made.get(place.path, ()):
                self._interrupts(place, made)
        document: dict[str, Any] = {"ratite": FORMAT}
        texts = texts_of(self._root.props.get("model", b"") or self._root.props.get("compatible", b""))
        if texts:
            document["description"] = escaped(f"from the device tree of {texts[0]}")
        console = {"type": "chardev", "default": "null", "description": "where the console's bytes go"}
        document["parameters"] = {_CONSOLE: console}
        document["chardevs"] = {_CONSOLE: f"$({_CONSOLE})"}
        self._console()
        for name, things in ("objects", self._objects), ("devices", self._devices):
            document[name] = things
        document["maps"] = {_VIEW: dict(sorted(self._maps.items(), key=lambda item: item[1]))}
        if self._wires:
            document["wires"] = self._wires
        unknown = list(dict.fromkeys(map(printable, self._unknown)))
        more = [f"… and {len(unknown) - UNKNOWN_MAX} more"] if len(unknown) > UNKNOWN_MAX else []
        return FromDtb(document, unknown[:UNKNOWN_MAX] + more)

    # -- the tree

    def _walk(self, path: str, node: Node, cells: tuple[int, int], ranges: Any, parent: int) -> None:
        handle = next((words_of(node.props[name]) for name in ("phandle", "linux,phandle") if name in node), [0])
        if "interrupt-parent" in node:
            parent = (words_of(node["interrupt-parent"]) or [0])[0]
        place = _Place(path or "/", node, cells, ranges, parent)
        bare = node.name.partition("@")[0]
        self._names[bare] = self._names.get(bare, 0) + 1
        self._places.append(place)
        if len(self._places) > NODES_MAX:
            raise GenericError(f"a device tree must have at most {NODES_MAX} nodes")
        if handle and handle[0]:
            self._by_handle[handle[0]] = place
        inner = self._cell(node, "#address-cells", 2), self._cell(node, "#size-cells", 1)
        through = ranges if not path else self._ranges(node, inner[0], cells[0], inner[1], ranges)
        for name, child in node.children.items():
            self._walk(f"{path}/{name}", child, inner, through, parent)

    @staticmethod
    def _cell(node: Node, name: str, default: int) -> int:
        cells = words_of(node.props.get(name, b""))
        return min(cells[0], 4) if cells else default

    @staticmethod
    def _ranges(node: Node, child: int, parent: int, size: int, above: Any) -> Any:
        """(bus address, CPU address, size) rows; (): the same addresses; None: no way through."""
        data = node.props.get("ranges")
        if data is None or above is None:
            return None
        cells, step = words_of(data), child + parent + size
        rows = []
        for at in range(0, len(cells) - step + 1, step or 1):
            low, mid, end = at + child, at + child + parent, at + step
            start = _translated(_joined(cells[low:mid]), above)
            if start is not None:
                rows.append((_joined(cells[at:low]), start, _joined(cells[mid:end])))
            if len(rows) > RANGES_MAX:
                raise GenericError(f"the ranges of '{printable(node.name)}' must have at most {RANGES_MAX} rows")
        return tuple(rows) if cells else above

    def _regs(self, place: _Place) -> list[tuple[int, int]]:
        """(CPU address, size) of each entry of reg that the CPU can reach."""
        cells, (wide, long) = words_of(place.node.props.get("reg", b"")), place.cells
        found = []
        for at in range(0, len(cells) - wide - long + 1, (wide + long) or 1):
            start = _translated(_joined(cells[at : at + wide]), place.ranges)
            if start is not None:
                found.append((start, _joined(cells[at + wide : at + wide + long])))
        return found

    def _id(self, place: _Place, more: str = "") -> str:
        name, _, unit = place.node.name.partition("@")
        text = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in f"{name}{more}")
        text = text if text[:1].isalpha() else f"dt-{text}"
        tried = f"{text}-{unit}" if unit and (text in self._ids or self._names[name] > 1) else text
        while tried in self._ids:
            self._same[text] = self._same.get(text, 1) + 1
            tried = f"{text}-{self._same[text]}"
        self._ids.add(tried)
        return tried

    def _tell(self, place: _Place, what: str) -> None:
        self._unknown.append(f"{place.path}: {what}")

    # -- CPUs and memory

    def _read_cpus(self) -> None:
        for place in self._places:
            kind = texts_of(place.node.props.get("device_type", b""))
            if kind == ["cpu"] and place.path.startswith("/cpus/"):
                self._cpu(place)
            elif kind == ["memory"]:
                regs = self._regs(place)
                if not regs:
                    self._tell(place, "it has no address that the CPU could reach")
                for start, size in regs:
                    if start + size > _ADDRESSES:
                        self._tell(place, f"{size:#x} bytes at {start:#x} end beyond 64 bits")
                    elif size:
                        name = self._id(place)
                        self._objects[name] = {"type": "memory-backend-ram", "size": size}
                        self._maps[name] = start
        if not self._cpus:
            self._unknown.append("/cpus: no CPU of a known target is described")

    def _cpu(self, place: _Place) -> None:
        compatible = texts_of(place.node.props.get("compatible", b""))
        target = next((name for name, row in self._declarations.targets.items() if self._is_target(place, row)), "")
        if not target or (self._target and target != self._target):
            other = f"of target '{target}', not '{self._target}'" if target else f"no target answers to {', '.join(compatible)}"
            self._tell(place, other)
            self._made[place.path] = []
            return
        row = self._declarations.targets[target]
        if not self._target:
            self._target, self._big = target, row["big-endian"]
            self._objects[_CLUSTER] = {"type": "cpu-cluster", "target": target, "address-space": _VIEW}
        index = len(self._cpus)
        self._cpus.append(place)
        name = f"cpu{index}"
        self._ids.add(name)
        kind = row["default-cpu"]
        made = _Made(name, kind, row["fdt"])
        self._made[place.path] = [made]
        for child in place.node.children:
            # The interrupt controller that is part of the CPU.
            self._made[f"{place.path}/{child}"] = [made]
        entry = {"type": kind, "cluster": _CLUSTER, "cpu-index": index, **self._properties(place, made)}
        self._devices[name] = entry

    @staticmethod
    def _is_target(place: _Place, row: Mapping[str, Any]) -> bool:
        rule = row.get("fdt")
        if rule is None or rule["compatible"] not in texts_of(place.node.props.get("compatible", b"")):
            return False
        data = place.node.props.get(rule["property"], b"")
        wanted = rule["value"]
        return words_of(data)[:1] == [wanted] if isinstance(wanted, int) else data.startswith(wanted.encode())

    # -- devices

    def _device(self, place: _Place) -> None:
        node = place.node
        compatible = texts_of(node.props.get("compatible", b""))
        if not compatible or place.path in self._made or place.path == "/":
            return
        if texts_of(node.props.get("status", b"okay\0"))[:1] not in (["okay"], ["ok"]):
            return
        fitting: list[tuple[str, Mapping[str, Any]]] = []
        for text in compatible:
            fitting = fitting or [(kind, rule) for kind, rule in self._rules if text in rule["compatible"]]
        if not fitting:
            handle = words_of(node.props.get("regmap", b""))
            served = bool(handle) and handle[0] in self._by_handle
            if "simple-bus" not in compatible and not served:
                self._tell(place, f"no device answers to {', '.join(compatible)}")
            return
        regs = self._regs(place)
        if not regs:
            self._tell(place, f"{compatible[0]}: it has no address that the CPU could reach")
            return
        for kind, rule in fitting:
            made = _Made(self._id(place, f"-{kind.rpartition('.')[2]}" if len(fitting) > 1 else ""), kind, rule)
            self._made.setdefault(place.path, []).append(made)
            self._devices[made.id] = {"type": kind, **self._properties(place, made)}
            self._place(place, made, regs)

    def _place(self, place: _Place, made: _Made, regs: list[tuple[int, int]]) -> None:
        regions = self._declarations.types[made.type]["regions"]
        names = made.rule.get("regions", [next(iter(regions))])
        several = len(regions) > 1
        if made.rule.get("joined"):
            regs = [(min(start for start, _ in regs), 0)]
        for name, (start, _) in zip(names, regs, strict=False):
            self._maps[f"{made.id}/{name}" if several else made.id] = start + made.rule.get("offset", 0)
        for code, (_, start, size) in self._windows(place):
            name = made.rule.get("ranges", {}).get(str(code))
            if name and size:
                self._maps[f"{made.id}/{name}"] = start

    def _windows(self, place: _Place) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """The windows of a PCI host: (space code, (PCI address, CPU address, size))."""
        cells, wide = words_of(place.node.props.get("ranges", b"")), place.cells[0]
        step = 3 + wide + 2
        for at in range(0, len(cells) - step + 1, step):
            start = _translated(_joined(cells[at + 3 : at + 3 + wide]), place.ranges)
            if start is not None:
                yield cells[at] >> 24 & 3, (_joined(cells[at + 1 : at + 3]), start, _joined(cells[at + 3 + wide : at + step]))

    # -- properties

    def _properties(self, place: _Place, made: _Made) -> dict[str, Any]:
        found: dict[str, Any] = {}
        rows = {row["name"]: row for row in self._declarations.properties(made.type)}
        prefix = made.rule.get("prefix")
        for name, row in rows.items():
            data = place.node.props.get(f"{prefix}{name}") if prefix else None
            if data is not None and row["type"] != "str":
                value = (words_of(data) or [0])[0]
                found[name] = bool(value) if row["type"] == "bool" else value
        for name, rule in made.rule.get("properties", {}).items():
            value = self._value(place, rule if isinstance(rule, dict) else {"cell": rule})
            if value is not None and name in rows:
                found[name] = value
        if "flags" in made.rule:
            found.update(self._flags(place, made.rule["flags"], rows))
        for name in [name for name, value in found.items() if not _in_range(value, rows[name])]:
            self._tell(place, f"{name} of type '{made.type}' can't be {found.pop(name)}")
        plain = {name: row.get("default") for name, row in rows.items() if not row.get("required")}
        return {name: value for name, value in found.items() if name not in plain or value != plain[name]}

    def _value(self, place: _Place, rule: Mapping[str, Any]) -> Any:
        """What one rule gives; None: the tree doesn't say."""
        node = place.node if "node" not in rule else self._at(rule["node"])
        how = next(iter(rule))
        if how == "cell":
            cells = words_of(node.props.get(rule["cell"], b"")) if node is not None else []
            return cells[-1] // rule.get("divide", 1) if cells else None
        if how == "const":
            return rule["const"]
        if how == "targets":
            return len(self._targets(place)) or None
        if how == "modes":
            return self._modes(place, rule["modes"])
        if how in ("size", "base"):
            regs = self._regs(place)
            low = min(start for start, _ in regs) if regs else 0
            if how == "size":
                return max(start + size for start, size in regs) - low if regs else None
            return regs[rule["base"]][0] - low if rule["base"] < len(regs) else None
        if how == "guest-endianness":
            return "big" if self._big else "little"
        if how == "present":
            return rule["value"] if rule["present"] in place.node else None
        if how == "text":
            return next(iter(texts_of(place.node.props.get(rule["text"], b""))), "").partition(rule["behind"])[2] or None
        code, member = rule["window"]
        return next((row[member] for found, row in self._windows(place) if found == code), None)

    def _at(self, path: str) -> Node | None:
        return next((place.node for place in self._places if place.path == path), None)

    def _flags(self, place: _Place, rule: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, bool]:
        """Names that a tree lists, as properties: listed is true; one of those that trees list and this doesn't is false."""
        names = texts_of(place.node.props.get(rule["list"], b""))
        complete = bool(names)
        if not names:
            letters, *others = (texts_of(place.node.props.get(rule["text"], b"")) or [""])[0].split("_")
            names = [*letters[rule["skip"] :], *others]
        if not names:
            return {}
        for name in names:
            if name not in rows and name not in rule["always"]:
                self._tell(place, f"extension '{name}' isn't known")
        listed = {name: name in names for name in rows if name in names or (complete and name in rule["names"])}
        largest = next(iter(texts_of(place.node.props.get(rule["levels"], b""))), "").rpartition(",")[2]
        levels = {name: name <= largest for name in rows if largest and name[:2] == largest[:2] and name[2:].isdigit()}
        return {name: value for name, value in {**listed, **levels}.items() if rows[name]["type"] == "bool"}

    # -- interrupts

    def _specifiers(self, place: _Place) -> Iterator[tuple[int, list[int]]]:
        """(phandle of the controller, cells) of each interrupt."""
        node = place.node
        extended = words_of(node.props.get("interrupts-extended", b""))
        if extended:
            at = 0
            while at < len(extended):
                count = self._interrupt_cells(extended[at])
                yield extended[at], extended[at + 1 : at + 1 + count]
                at += 1 + count
            return
        cells = words_of(node.props.get("interrupts", b""))
        count = self._interrupt_cells(place.parent) or 1
        for at in range(0, len(cells) - count + 1, count):
            yield place.parent, cells[at : at + count]

    def _interrupt_cells(self, handle: int) -> int:
        place = self._by_handle.get(handle)
        return self._cell(place.node, "#interrupt-cells", 1) if place is not None else 1

    def _targets(self, place: _Place) -> list[int]:
        return list(dict.fromkeys(handle for handle, _ in self._specifiers(place)))

    def _modes(self, place: _Place, letters: Mapping[str, str]) -> str | None:
        texts: dict[int, str] = {}
        for handle, cells in self._specifiers(place):
            texts[handle] = texts.get(handle, "") + letters.get(str(cells[0] if cells else ""), "")
        return ",".join(texts.values()) or None

    def _interrupts(self, place: _Place, made: _Made) -> None:
        if place in self._cpus or any(place.path.startswith(f"{cpu.path}/") for cpu in self._cpus):
            return
        outputs = self._declarations.types[made.type]["outputs"]
        order = {handle: number for number, handle in enumerate(self._targets(place))}
        pairs = list(self._specifiers(place))
        for number, (handle, cells) in enumerate(pairs):
            end = self._input(place, handle, cells)
            if end is None:
                continue
            name = end[1].partition("[")[0]
            if name in outputs and self._devices[end[0]].get("cluster") == _CLUSTER:
                self._wire(f"{made.id}/{name}[{order[handle]}]", end)
            elif number < len(outputs) and len(self._made[place.path]) == 1:
                self._wire(f"{made.id}/{list(outputs)[number]}", end)
        if "map" in made.rule:
            self._interrupt_map(place, made)
        if not pairs and "root" in made.rule and self._cpus:
            output, line = made.rule["root"]
            self._wire(f"{made.id}/{output}", (self._made[self._cpus[0].path][0].id, line))

    def _interrupt_map(self, place: _Place, made: _Made) -> None:
        """Pin P of slot S comes out of line (P - 1 + S) modulo their number."""
        cells = words_of(place.node.props.get("interrupt-map", b""))
        count = int(self._declarations.types[made.type]["outputs"][made.rule["map"]])
        at = 0
        while at + 5 <= len(cells):
            slot, pin, handle = cells[at] >> 11 & 31, cells[at + 3], cells[at + 4]
            controller = self._by_handle.get(handle)
            inner = at + 5 + (self._cell(controller.node, "#address-cells", 0) if controller is not None else 0)
            at = inner + self._interrupt_cells(handle)
            end = self._input(place, handle, cells[inner:at])
            if end is not None:
                self._wire(f"{made.id}/{made.rule['map']}[{(pin - 1 + slot) % count}]", end)

    def _input(self, place: _Place, handle: int, cells: Sequence[int]) -> tuple[str, str] | None:
        """(id, line) of the controller's input."""
        if not cells or cells[0] == _NOWHERE:
            return None
        controller = self._by_handle.get(handle)
        for made in self._made.get(controller.path, ()) if controller is not None else ():
            inputs = made.rule.get("inputs")
            if isinstance(inputs, str):
                return made.id, f"{inputs}[{cells[0]}]"
            if inputs and str(cells[0]) in inputs:
                return made.id, inputs[str(cells[0])]
        where = controller.path if controller is not None else f"phandle {handle}"
        self._tell(place, f"interrupt {cells[0]} of {where} has no line here")
        return None

    def _wire(self, output: str, end: tuple[str, str]) -> None:
        text = "/".join(end)
        known = self._wires.get(output)
        if known is None and text in self._driven:
            self._unknown.append(f"{output}: {text} is driven by another device already")
        elif known is None:
            self._wires[output] = text
            self._driven.add(text)

    def _console(self) -> None:
        """The serial line that /chosen names, else the first one, gets the console."""
        chosen = self._at("/chosen")
        path = next(iter(texts_of(chosen.props.get("stdout-path", b""))), "") if chosen is not None else ""
        aliases = self._at("/aliases")
        path = path.partition(":")[0]
        if aliases is not None and path in aliases:
            path = next(iter(texts_of(aliases[path])), "")
        lines = {made.id: at for at, all_made in self._made.items() for made in all_made if self._has_chardev(made.type)}
        found = next((name for name, at in lines.items() if at == path), next(iter(lines), None))
        if found is not None:
            self._devices[found]["chardev"] = _CONSOLE

    def _has_chardev(self, kind: str) -> bool:
        return any(row.get("link") == "chardev" for row in self._declarations.properties(kind))


def _translated(address: int, ranges: tuple[tuple[int, int, int], ...] | None) -> int | None:
    if ranges is None:
        return None
    if not ranges:
        found: int | None = address
    else:
        found = next((start + address - low for low, start, size in ranges if low <= address < low + size), None)
    return found if found is not None and found < _ADDRESSES else None


def _in_range(value: Any, row: Mapping[str, Any]) -> bool:
    """Whether a property takes the value; what isn't a number is for others to say."""
    low, high = INTEGER_RANGES.get(row["type"], (0, 0))
    if low == high or not isinstance(value, int):
        return True
    return bool(max(low, row.get("minimum", low)) <= value <= min(high, row.get("maximum", high)))
