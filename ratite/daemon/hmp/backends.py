"""Topics of `info` about what the host gives: chardevs, disks, networks, memory; and the virtio devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratite.daemon.hmp.line import HmpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratite.daemon.hmp.line import Line

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def chardev(line: Line) -> str:
    """info chardev"""
    return "".join(f"{row['label']}: filename={row['filename']}\n" for row in line.qmp("query-chardev"))


# ---------------------------------------------------------------- disks


def block(line: Line) -> str:
    """info block [-n] [-v] [DEVICE]: disks, or nodes"""
    wanted, shown = line.args.get("device"), []
    if "n" in line.args:
        for node in line.qmp("query-named-block-nodes"):
            if wanted in (None, node["node-name"]):
                shown.append(_node(node, node["node-name"], [], "v" in line.args))
    else:
        for row in line.qmp("query-block"):
            node = row.get("inserted", {})
            if wanted in (None, row["device"] or node.get("node-name"), row.get("qdev")):
                shown.append(_disk(row, node, "v" in line.args))
    return "\n".join(shown)


def _disk(row: dict[str, Any], node: dict[str, Any], verbose: bool) -> str:
    name, node_name = row["device"], node.get("node-name", "")
    label = f"{name} ({node_name})" if name and node_name != name else node_name
    more = []
    if row.get("qdev"):
        more.append(f"Attached to:      {_short(row['qdev'])}")
    if row["removable"]:
        tray = "open" if row.get("tray_open") else "closed"
        more.append(f"Removable device: {'' if row['locked'] else 'not '}locked, tray {tray}")
    if row.get("io-status", "ok") != "ok":
        more.append(f"I/O status:       {row['io-status']}")
    if node:
        return _node(node, label, more, verbose)
    return f"{label}: [not inserted]\n" + "".join(f"    {each}\n" for each in more)


def _short(path: str) -> str:
    """A device's id where it has one."""
    return path.removeprefix("/machine/peripheral/") if path.count("/") == 3 and "peripheral-anon" not in path else path


# What is told of a disk's limits where one of the first is set.
_BYTES, _OPERATIONS = ("bps", "bps_rd", "bps_wr"), ("iops", "iops_rd", "iops_wr")
_LIMITS = (
    *_BYTES, *(f"{key}_max" for key in _BYTES), *_OPERATIONS, *(f"{key}_max" for key in _OPERATIONS), "iops_size",
)  # fmt: skip


def _node(node: dict[str, Any], label: str, more: list[str], verbose: bool) -> str:
    cache = node["cache"]
    words = ["writeback" if cache["writeback"] else "writethrough"]
    words += [word for key, word in (("direct", "direct"), ("no-flush", "ignore flushes")) if cache[key]]
    lines = [f"{label}: {node['file']} ({node['drv']}{', read-only' if node['ro'] else ''})"]
    lines += [f"    {each}" for each in (*more, f"Cache mode:       {', '.join(words)}")]
    if any(node.get(key) for key in (*_BYTES, *_OPERATIONS)):
        limits = " ".join(f"{key}={node.get(key, 0)}" for key in _LIMITS)
        lines.append(f"    I/O throttling:   {limits} group={node['group']}")
    if verbose:
        image = node["image"]
        lines += ["", "Images:", f"image: {image['filename']}", f"file format: {image['format']}"]
        size = image["virtual-size"]
        lines += [f"virtual size: {_size(size)} ({size} bytes)", f"disk size: {_size(image['actual-size'])}"]
    return "\n".join(lines) + "\n"


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


def blockstats(line: Line) -> str:
    """info blockstats"""
    return "".join(f"{row.get('device', '')}: {_counters(row['stats'])}\n" for row in line.qmp("query-blockstats"))


def _counters(stats: dict[str, Any]) -> str:
    keys = (
        "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns", "rd_total_time_ns",
        "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns",
    )  # fmt: skip
    return " ".join(f"{key}={stats.get(key, 0)}" for key in keys)


def block_jobs(line: Line) -> str:
    """info block-jobs"""
    rows = line.qmp("query-block-jobs")
    return "".join(
        f"Type {row['type']}, device {row['device']}: Completed {row['offset']} of {row['len']} bytes, "
        f"speed limit {row['speed']} bytes/s\n"
        for row in rows
    ) or "No active jobs\n"


# ---------------------------------------------------------------- networks, virtio, memory


def network(line: Line) -> str:
    """info network: each card with its backend, then the backends without one"""
    if not line.ctx.daemon.has_machine:
        return ""
    machine = line.ctx.machine
    text, used = "", set()
    for obj in machine.tree.members():
        netdev = getattr(obj, "netdev", None)
        if obj.find_prop("mac") is None:
            continue
        text += f"{_short(obj.path)}: index=0,type=nic,model={obj.TYPE},macaddr={obj.get_property('mac')}\n"
        if netdev is not None:
            used.add(netdev.id)
            text += f" \\ {_backend(netdev)}\n"
    return text + "".join(f"{_backend(each)}\n" for id, each in sorted(machine.netdevs.children.items()) if id not in used)


def _backend(netdev: Any) -> str:
    options = dict(netdev.options)
    kind = options.pop("type")
    shown = ",".join(f"{key}={value}" for key, value in sorted(options.items()) if not isinstance(value, dict))
    return f"{netdev.id}: index=0,type={kind},{shown}"


def virtio(line: Line) -> str:
    """info virtio: the virtio devices, by path"""
    if not line.ctx.daemon.has_machine:
        return ""
    rows = []
    for obj in line.ctx.machine.tree.members():
        if obj.is_a("virtio-device"):
            kind = obj.TYPE.removesuffix("-device").removesuffix("-pci")
            rows.append(f"{obj.path} [{kind}]\n")
    return "".join(rows)


def balloon(line: Line) -> str:
    """info balloon"""
    return f"balloon: actual={line.qmp('query-balloon')['actual'] >> 20}\n"


def memory_size_summary(line: Line) -> str:
    """info memory_size_summary"""
    found = line.qmp("query-memory-size-summary")
    text = f"base memory: {found['base-memory']}\n"
    return text + (f"plugged memory: {found['plugged-memory']}\n" if "plugged-memory" in found else "")


def dump(line: Line) -> str:
    """info dump"""
    found = line.qmp("query-dump")
    text = f"Status: {found['status']}\n"
    if found["status"] == "active":
        text += f"Finished: {100 * found['completed'] / found['total']:.2f} %\n"
    return text


def memdev(line: Line) -> str:
    """info memdev"""
    text = ""
    for row in line.qmp("query-memdev"):
        text += f"memory backend: {row.get('id', '')}\n  size:  {row['size']}\n"
        switches = [key for key in ("merge", "dump", "prealloc", "share", "reserve") if key in row]
        text += "".join(f"  {key}: {str(row[key]).lower()}\n" for key in switches)
        text += f"  policy: {row['policy']}\n  host nodes: {','.join(map(str, row['host-nodes']))}\n"
    return text + "\n"


def iothreads(line: Line) -> str:
    """info iothreads"""
    text = ""
    for row in line.qmp("query-iothreads"):
        text += f"{row['id']}:\n"
        keys = ("thread_id", "poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch")
        text += "".join(f"  {key}={row[key.replace('_', '-')]}\n" for key in keys)
    return text


def hotpluggable_cpus(line: Line) -> str:
    """info hotpluggable-cpus"""
    text = "Hotpluggable CPUs:\n"
    for row in line.qmp("query-hotpluggable-cpus"):
        text += f'  type: "{row["type"]}"\n  vcpus_count: "{row["vcpus-count"]}"\n'
        text += f'  qom_path: "{row["qom-path"]}"\n' if "qom-path" in row else ""
        text += "  CPUInstance Properties:\n"
        text += "".join(f'    {name}: "{value}"\n' for name, value in row["props"].items())
    return text


def report(command: str) -> Callable[[Line], str]:
    """A topic that a QMP command answers as text."""

    def run(line: Line) -> str:
        text: str = line.qmp(command)["human-readable-text"]
        return text

    return run


def kvm(line: Line) -> str:
    """info kvm"""
    found = line.qmp("query-kvm")
    return f"kvm support: {'enabled' if found['enabled'] else 'disabled' if found['present'] else 'not compiled'}\n"


def snapshots(line: Line) -> str:
    """info snapshots"""
    raise HmpError("no block device can store vmstate for snapshot")
