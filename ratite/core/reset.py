"""The reset of a machine: who is reset, and in which order.

    1. objects and devices, links first (what an object links to is reset before it)
    2. irq inputs of devices hear their level again, where it isn't 0
    3. CPUs: images are loaded, then every CPU starts at its reset address

Nothing executes meanwhile: the caller has parked the vCPUs and holds the machine lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType

from ratite.core import log
from ratite.core.device import Device
from ratite.core.objects.obj import Obj

_RANK = MappingProxyType({"object": 0, "": 0, "device": 1, "cpu": 2})


def in_order(members: Iterable[Obj]) -> list[Obj]:
    """Objects, devices, CPUs; within each what is linked to first, then by path.  Cycles are cut at the later path."""
    ordered: list[Obj] = []
    todo = sorted(members, key=lambda obj: (_RANK[obj.KIND], obj.path))
    allowed = set(map(id, todo))
    entered: set[int] = set()

    def enter(obj: Obj, depth: int) -> None:
        if id(obj) in entered or id(obj) not in allowed:
            return
        entered.add(id(obj))
        for other in obj.before():
            enter(other, depth + 1)
        for prop in obj.PROPERTIES.values():
            target = getattr(obj, prop.attr) if prop.link else None
            if isinstance(target, Obj) and depth < 64:
                enter(target, depth + 1)
        ordered.append(obj)

    for obj in todo:
        enter(obj, 0)
    return ordered


def reset_all(members: Sequence[Obj]) -> None:
    """Reset every realized object; `members` in the order of in_order()."""
    realized = [obj for obj in members if obj.phase == "realized"]
    for obj in realized:
        if obj.KIND != "cpu":
            _guarded(obj, obj.reset)
    for obj in realized:
        if isinstance(obj, Device):
            for line in obj.all_inputs():
                _guarded(obj, line.replay)
    cpus = [obj for obj in realized if obj.KIND == "cpu"]
    for cpu in cpus:
        _guarded(cpu, cpu.load_image)  # type: ignore[attr-defined]  # what KIND "cpu" means
    for cpu in cpus:
        _guarded(cpu, cpu.reset)


def _guarded(obj: Obj, step: Callable[[], None]) -> None:
    """One object's fault must not keep the others from being reset (an image whose RAM was unmapped, a device's bug)."""
    try:
        step()
    except Exception as exc:
        log.error("reset failed", path=obj.path, type=obj.TYPE, error=f"{type(exc).__name__}: {exc}")
