"""riscv.sifive.plic: interrupt controller after the RISC-V Platform-Level Interrupt Controller Specification 1.0.0.

    priority-base + 4n               priority of source n, 0: never
    pending-base + 4(n/32)           pending bits, read-only
    enable-base + enable-stride·c    enable bits of context c
    context-base + context-stride·c  threshold of context c; 4 bytes on: claim (read), completion (written)

A context is a privilege mode of a hart; `hart-config` lists them: "M,MS,MS" is a hart with M alone (context 0), two with M and
S (contexts 1 to 4).  Context "M" of hart n drives the line meip[n], "S" seip[n].  The line irq[n] is source n; there
is no source 0.

Gateways: a level source asks again after its completion while its line is high; a source of `edge-sources` asks when its line
rises, and one edge that comes while it is served is kept.  What was asked stays, whatever the line does, until it is
claimed.  A priority beyond num-priorities isn't taken (fields are WARL).  Registers take 4-byte accesses.

Left out: nothing of the specification; SiFive's feature disable registers aren't part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.irq import Input
from ratite.core.objects.props import config, state
from ratite.qapi.errors import GenericError

SOURCES, CONTEXTS = 1023, 15872
_WORD = 0xFFFFFFFF
_PRIORITY, _PENDING, _ENABLE, _THRESHOLD, _CLAIM = "priority", "pending", "enable", "threshold", "claim"
_HARTS = re.compile(r"M?S?(,M?S?)*")
_RANGES = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


class Context:
    """What interrupts are for one mode of one hart."""

    __slots__ = ("enabled", "hart", "line", "mode", "threshold")

    def __init__(self, line: Any, hart: int, mode: str) -> None:
        self.line = line
        self.hart = hart
        self.mode = mode
        self.enabled = 0  # bit n: source n
        self.threshold = 0


class SifivePlic(MmioDevice):
    """Platform-level interrupt controller.  RISC-V PLIC specification 1.0.0."""

    TYPE: ClassVar[str] = "riscv.sifive.plic"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"irq": "num-sources"}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"meip": 1, "seip": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window("aperture-size", (4, 8), (4, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["sifive,plic-1.0.0", "riscv,plic0"],
            "properties": {
                "hart-config": {"modes": {"11": "M", "9": "S"}},
                "num-sources": "riscv,ndev",
                "aperture-size": {"size": True},
            },
            "inputs": "irq",
        },
    )

    hart_config: str = config("str", "MS", "modes of each hart that have a context: \"M,MS,MS\"")
    num_sources: int = config("uint32", 96, "number of the last source", minimum=1, maximum=SOURCES)
    num_priorities: int = config("uint32", 7, "highest priority", minimum=1)
    edge_sources: str = config("str", "", "sources that are triggered by edges: \"3,8-11\"")
    priority_base: int = config("uint32", 0, "offset of the priorities", unit="bytes")
    pending_base: int = config("uint32", 0x1000, "offset of the pending bits", unit="bytes")
    enable_base: int = config("uint32", 0x2000, "offset of the enable bits", unit="bytes")
    enable_stride: int = config("uint32", 0x80, "distance of the contexts' enable bits", unit="bytes")
    context_base: int = config("uint32", 0x200000, "offset of thresholds and claims", unit="bytes")
    context_stride: int = config("uint32", 0x1000, "distance of the contexts' thresholds", unit="bytes")
    aperture_size: int = config("uint32", 0x4000000, "size of the region", unit="bytes", minimum=16)

    priorities: list[int] = state("list:uint32", [], "priority of each source, from 0 on")
    thresholds: list[int] = state(
        "list:uint32", text="threshold of each context", getter="_get_thresholds", setter="_set_thresholds"
    )
    enables: list[int] = state(
        "list:uint32", text="enable bits of each context, 32 a word", getter="_get_enables", setter="_set_enables"
    )
    pending: list[int] = state("list:uint32", text="pending bits", getter="_get_pending", setter="_set_pending")
    serving: list[int] = state("list:uint32", text="claimed and not completed", getter="_get_serving", setter="_set_serving")
    edges: list[int] = state("list:uint32", text="edges kept while served", getter="_get_edges", setter="_set_edges")
    levels: list[int] = state("list:uint32", text="levels of the lines", getter="_get_levels", setter="_set_levels")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.contexts: list[Context] = []
        # Offset → kind of register, index (a source's number or a shift), context.
        self._decoded: dict[int, tuple[str, int, Context]] = {}
        self._words = self._sources = 0
        self._pending = self._serving = self._kept = self._levels = self._edge = 0

    # -- life cycle

    def check_property(self, name: str, value: Any) -> None:
        if name == "hart-config" and (_HARTS.fullmatch(value) is None or not value.strip(",")):
            raise GenericError(f"Property '{self.TYPE}.hart-config' must be like \"M,MS,MS\", not '{value}'")
        if name == "edge-sources" and value and _RANGES.fullmatch(value) is None:
            raise GenericError(f"Property '{self.TYPE}.edge-sources' must be like \"3,8-11\", not '{value}'")

    def line_counts(self, table: Mapping[str, int | str]) -> dict[str, int]:
        harts = self.hart_config.count(",") + 1
        return {name: self.num_sources + 1 if name == "irq" else harts for name in table}

    def wire(self) -> None:
        self._words = self.num_sources // 32 + 1
        self._sources = (2 << self.num_sources) - 2
        self._edge = self._edge_mask()
        modes = [(hart, mode) for hart, text in enumerate(self.hart_config.split(",")) for mode in text]
        self._check_layout(len(modes))
        super().wire()
        lines = {"M": self.outputs["meip"], "S": self.outputs["seip"]}
        self.contexts = [Context(lines[mode][hart], hart, mode) for hart, mode in modes]
        self._decoded = {}
        self.priorities = [0] * (self.num_sources + 1)

    def check_wired(self, errors: list[str]) -> None:
        """Lines that no context drives, and source 0, lead nowhere: whoever wired them means something else."""
        driven = {id(context.line) for context in self.contexts}
        for out in self.all_outputs():
            if out.peer is not None and id(out) not in driven:
                errors.append(f"{self.path}: hart-config '{self.hart_config}' has no context for {out.name}[{out.index}]")
        if self.inputs["irq"][0].driver is not None:
            errors.append(f"{self.path}: irq[0] is wired, but sources start at 1")

    def fdt_node(self, tree: DeviceTree) -> None:
        """Every context in its order, as what it drives; one that drives nothing here as an interrupt that isn't there."""
        node = tree.node(self, "interrupt-controller", ("sifive,plic-1.0.0", "riscv,plic0"))
        for name in "interrupt-parent", "interrupts":
            node[name] = False
        nothing = [tree.phandle(tree.cpus[0]), _WORD]
        node["interrupts-extended"] = [
            cell for context in self.contexts for cell in tree.extended((context.line,))[:2] or nothing
        ]
        node["riscv,ndev"] = self.num_sources
        node["interrupt-controller"] = True
        node["#interrupt-cells"] = 1
        node["#address-cells"] = 0

    def fdt_interrupt(self, end: Input) -> Sequence[int]:
        return (end.index,)

    def unwire(self) -> None:
        self.contexts = []
        self._decoded = {}
        super().unwire()

    def _edge_mask(self) -> int:
        mask = 0
        for part in filter(None, self.edge_sources.split(",")):
            low, _, high = part.partition("-")
            first, last = int(low), int(high or low)
            if not 1 <= first <= last <= self.num_sources:
                raise GenericError(
                    f"'{self.path}': edge-sources '{part}' must be between 1 and num-sources {self.num_sources}"
                )
            mask |= (2 << last) - (1 << first)
        return mask

    def _check_layout(self, contexts: int) -> None:
        if contexts > CONTEXTS:
            raise GenericError(f"'{self.path}': hart-config has {contexts} contexts, at most {CONTEXTS} are possible")
        words = 4 * self._words
        blocks = [
            ("priorities", self.priority_base, 4 * (self.num_sources + 1)),
            ("pending bits", self.pending_base, words),
            ("enable bits", self.enable_base, self.enable_stride * (contexts - 1) + words),
            ("contexts", self.context_base, self.context_stride * (contexts - 1) + 8),
        ]
        end, before = 0, ""
        for name, start, size in sorted(blocks, key=lambda block: block[1]):
            if start < end:
                raise GenericError(f"'{self.path}': {before} and {name} overlap at {start:#x}")
            if start % 4 or start + size > self.aperture_size:
                raise GenericError(
                    f"'{self.path}': {name} at {start:#x}-{start + size - 1:#x} must be a multiple of 4 and "
                    f"inside aperture-size {self.aperture_size:#x}"
                )
            end, before = start + size, name
        if contexts > 1 and (self.enable_stride % 4 or self.enable_stride < words):
            raise GenericError(f"'{self.path}': enable-stride must be a multiple of 4 and at least {words}")
        if contexts > 1 and (self.context_stride % 4 or self.context_stride < 8):
            raise GenericError(f"'{self.path}': context-stride must be a multiple of 4 and at least 8")

    def reset(self) -> None:
        super().reset()
        self.priorities = [0] * (self.num_sources + 1)
        self._pending = self._serving = self._kept = self._levels = 0
        for context in self.contexts:
            context.enabled = context.threshold = 0
        self._update()

    def post_load(self) -> None:
        self._update()

    # -- gateways

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        return partial(self._line_changed, 1 << index & ~1)

    def _line_changed(self, bit: int, level: int) -> None:
        if not level:
            self._levels &= ~bit
            return
        rises = bit & ~self._levels
        self._levels |= bit
        if bit & self._edge & ~rises:
            return
        if not bit & self._serving:
            self._pending |= bit
            self._update()
        elif bit & self._edge:
            self._kept |= bit

    def _claim(self, context: Context) -> int:
        best, priority = 0, 0
        for source in _bits(self._pending & context.enabled):
            if self.priorities[source] > priority:
                best, priority = source, self.priorities[source]
        if best:
            self._pending &= ~(1 << best)
            self._serving |= 1 << best
            self._update()
        return best

    def _complete(self, context: Context, source: int) -> None:
        bit = 1 << source if source <= self.num_sources else 0
        if bit & context.enabled & self._serving:
            self._serving &= ~bit
            if bit & (self._kept if bit & self._edge else self._levels):
                self._kept &= ~bit
                self._pending |= bit
                self._update()

    def _update(self) -> None:
        pending, priorities = self._pending, self.priorities
        for context in self.contexts:
            waiting, level = pending & context.enabled, 0
            if waiting:
                threshold = context.threshold
                level = any(priorities[source] > threshold for source in _bits(waiting))
            context.line.set(level)

    # -- the bus

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        found = self._decoded.get(offset) or self._decode(offset)
        if found is None:
            return self.unmodelled(region, offset, False)
        kind, index, context = found
        if kind == _CLAIM:
            return self._claim(context)
        if kind == _PRIORITY:
            return self.priorities[index]
        if kind == _THRESHOLD:
            return context.threshold
        return (context.enabled if kind == _ENABLE else self._pending) >> index & _WORD

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        found = self._decoded.get(offset) or self._decode(offset)
        if found is None:
            self.unmodelled(region, offset, True)
            return
        kind, index, context = found
        if kind == _CLAIM:
            self._complete(context, value)
            return
        if kind == _PRIORITY:
            if index and value <= self.num_priorities:
                self.priorities[index] = value
        elif kind == _THRESHOLD:
            if value <= self.num_priorities:
                context.threshold = value
        elif kind == _ENABLE:
            context.enabled = (context.enabled & ~(_WORD << index) | value << index) & self._sources
        self._update()

    def _decode(self, offset: int) -> tuple[str, int, Context] | None:
        """What is at `offset`, kept for the next time: there are no more than the registers."""
        found = self._look_up(offset)
        if found is not None:
            self._decoded[offset] = found
        return found

    def _look_up(self, offset: int) -> tuple[str, int, Context] | None:
        any_context = self.contexts[0]
        at = offset - self.priority_base
        if 0 <= at <= 4 * self.num_sources:
            return _PRIORITY, at >> 2, any_context
        at = offset - self.pending_base
        if 0 <= at < 4 * self._words:
            return _PENDING, 8 * at, any_context
        at = offset - self.enable_base
        if at >= 0 and at // self.enable_stride < len(self.contexts) and at % self.enable_stride < 4 * self._words:
            return _ENABLE, 8 * (at % self.enable_stride), self.contexts[at // self.enable_stride]
        at = offset - self.context_base
        if at >= 0 and at // self.context_stride < len(self.contexts) and at % self.context_stride <= 4:
            return _CLAIM if at % self.context_stride else _THRESHOLD, 0, self.contexts[at // self.context_stride]
        return None

    # -- saved state

    def _to_words(self, bits: int) -> list[int]:
        return [bits >> 32 * n & _WORD for n in range(self._words)] if self.contexts else []

    def _get_pending(self) -> list[int]:
        return self._to_words(self._pending)

    def _set_pending(self, words: list[int]) -> None:
        self._pending = _from_words(words) & self._sources

    def _get_serving(self) -> list[int]:
        return self._to_words(self._serving)

    def _set_serving(self, words: list[int]) -> None:
        self._serving = _from_words(words) & self._sources

    def _get_edges(self) -> list[int]:
        return self._to_words(self._kept)

    def _set_edges(self, words: list[int]) -> None:
        self._kept = _from_words(words) & self._edge

    def _get_levels(self) -> list[int]:
        return self._to_words(self._levels)

    def _set_levels(self, words: list[int]) -> None:
        self._levels = _from_words(words) & self._sources

    def _get_enables(self) -> list[int]:
        return [word for context in self.contexts for word in self._to_words(context.enabled)]

    def _set_enables(self, words: list[int]) -> None:
        self._check_length("enables", words, self._words * len(self.contexts))
        for n, context in enumerate(self.contexts):
            context.enabled = _from_words(words[n * self._words : (n + 1) * self._words]) & self._sources

    def _get_thresholds(self) -> list[int]:
        return [context.threshold for context in self.contexts]

    def _set_thresholds(self, values: list[int]) -> None:
        self._check_length("thresholds", values, len(self.contexts))
        for context, value in zip(self.contexts, values, strict=True):
            context.threshold = value

    def _check_length(self, name: str, values: list[int], count: int) -> None:
        if len(values) != count:
            raise GenericError(f"Property '{self.TYPE}.{name}' of '{self.path}' has {count} elements, not {len(values)}")


def _bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, from the lowest on."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _from_words(words: list[int]) -> int:
    return sum(word << 32 * n for n, word in enumerate(words))
