"""/metrics: the control plane and its instances as Prometheus reads them (text format 0.0.4).

Instances are asked over their monitors, all at once; one that doesn't answer within a second counts as not answering.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ratite import __version__
from ratite.daemon.control.qmplink import LinkBusy, LinkClosed, QmpRefusal

if TYPE_CHECKING:
    from ratite.daemon.control.instance import Instance
    from ratite.daemon.control.plane import ControlPlane

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ANSWER_SECONDS = 1.0

# The numbers of a tier that are told.
_TIER = ("tier", "regions", "bytes", "compiled", "instructions")

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class _Text:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """A family of samples."""
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for labels, value in samples:
            shown = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
            number = repr(value) if isinstance(value, float) else str(value)
            self._lines.append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def collect(plane: ControlPlane) -> str:
    """The whole text."""
    instances = list(plane.instances.values())
    reports = await asyncio.gather(*(_report(instance) for instance in instances))
    # The kernel walks each one's memory for it.
    memory = await asyncio.to_thread(lambda: [instance.memory() for instance in instances])
    text = _Text()
    add = text.add
    add("ratite_info", "gauge", "Version of ratite.", [({"version": __version__}, 1)])
    add("ratite_uptime_seconds", "gauge", "Since the control plane's start.", [({}, time.monotonic() - plane.started)])
    add("ratite_zygote_restarts_total", "counter", "Times that the zygote had to be started again.",
        [({}, plane.nursery.restarts)])  # fmt: skip
    add("ratite_connections", "gauge", "WebSockets that are open.", [({}, len(plane.peers))])
    add("ratite_refused_total", "counter", "Requests that the gate refused.", [({}, plane.refused)])
    add("ratite_rpc_calls_total", "counter", "Calls by method and outcome.",
        [({"method": method, "code": code}, count) for (method, code), count in sorted(plane.calls.items())])  # fmt: skip
    add("ratite_instances", "gauge", "Instances that exist.", [({}, len(instances))])
    named = [({"instance": instance.name}, instance, report) for instance, report in zip(instances, reports, strict=True)]
    add("ratite_instance_up", "gauge", "Whether it answered in time.",
        [(label, 0 if report is None else 1) for label, _, report in named])  # fmt: skip
    add("ratite_instance_running", "gauge", "Whether its guests run.",
        [(label, int(report["running"])) for label, _, report in named if report])  # fmt: skip
    add("ratite_instance_events_total", "counter", "Events that it has sent.",
        [(label, instance.events) for label, instance, _ in named])  # fmt: skip
    add("ratite_instance_log_bytes_total", "counter", "Bytes that its process has printed.",
        [(label, instance.log_bytes) for label, instance, _ in named])  # fmt: skip
    add("ratite_instance_memory_bytes", "gauge", "Memory of its process: private to it, and resident.",
        [({**label, "kind": kind.removesuffix("-memory")}, size)
         for (label, _, _), sizes in zip(named, memory, strict=True) for kind, size in sizes.items()])  # fmt: skip
    _add_guests(add, [(label, report) for label, _, report in named if report])
    return str(text)


def _add_guests(add: Any, reports: list[tuple[Labels, dict[str, Any]]]) -> None:
    for name, text, key in (
        ("ratite_vcpu_instructions_total", "Instructions that a CPU has executed.", "instructions"),
        ("ratite_vcpu_exits_total", "Times that a CPU left guest code.", "exits"),
    ):
        rows = [(label, row) for label, report in reports for row in report["cpus"] if key in row]
        add(name, "counter", text, [({**label, "cpu": row["cpu"]}, row[key]) for label, row in rows])
    for name, kind, text, key in (
        ("ratite_jit_regions", "gauge", "Compiled regions that are there.", "regions"),
        ("ratite_jit_bytes", "gauge", "Bytes of compiled regions.", "bytes"),
        ("ratite_jit_compiled_total", "counter", "Regions that were compiled.", "compiled"),
        ("ratite_jit_instructions_total", "counter", "Instructions executed in compiled regions.", "instructions"),
    ):
        add(name, kind, text,
            [({**label, "cluster": cluster["cluster"], "tier": str(tier["tier"])}, tier[key])
             for label, report in reports for cluster in report["jit"] for tier in cluster["tiers"]])  # fmt: skip


async def _report(instance: Instance) -> dict[str, Any] | None:
    try:
        return await asyncio.wait_for(_ask(instance), ANSWER_SECONDS)
    except (TimeoutError, LinkClosed, LinkBusy, QmpRefusal):
        return None
    except (KeyError, TypeError, ValueError):
        # It doesn't say what we'd say.
        return None


async def _ask(instance: Instance) -> dict[str, Any]:
    link = instance.link
    status = await link.execute("query-status")
    report: dict[str, Any] = {"running": bool(status["running"]), "cpus": [], "jit": []}
    phase = (await link.execute("query-machine-phase"))["phase"]
    if phase not in ("ready", "running", "paused"):
        return report
    report["jit"] = [
        {"cluster": str(row["cluster"]), "tiers": [{key: int(tier[key]) for key in _TIER} for tier in row["tiers"]]}
        for row in await link.execute("query-jit")
    ]
    paths = [str(row["qom-path"]) for row in await link.execute("query-cpus-fast")]
    for path in paths:
        row: dict[str, Any] = {"cpu": path}
        for name in ("instructions", "exits"):
            try:
                row[name] = int(await link.execute("qom-get", {"path": path, "property": name}))
            except QmpRefusal:
                continue
        report["cpus"].append(row)
    return report
