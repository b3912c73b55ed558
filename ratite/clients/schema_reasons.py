"""Why ratite's schema differs from QEMU 10.0's where it does: a pattern of findings (schema_diff.py), and the reason.

A pattern is matched with the name of what is missing as a whole ("eject"), or with the place where something is
("object-add arguments.qom-type"); "*" stands for anything, and the first line that fits counts.  A difference without a
reason fails tests/schema; a reason that fits nothing any more is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from ratite.clients.schema_diff import Finding

# What isn't there at all.
_MIGRATION = "migration and snapshots aren't built yet, and `query-migrate-capabilities` says so"
_BLOCK_JOBS = "jobs make images, mirror and back up whole nodes; there are no bitmaps, chains of images or snapshots yet"
_EXPORTS = "disks are shown by the NBD server alone, whole and without TLS"
_MEDIA = "there is no device with a removable medium"
_DISPLAY = "there is no display, keyboard or mouse"
_CHARDEV = "kinds and options that aren't built are absent, not accepted and ignored"
_NETDEV = "networks are streams and datagrams, interfaces of the host, and `user` by passt"
_BLOCK = "images are raw, in regular files of the host"
_OBJECTS = "objects are offered once they do what they are for"

REASONS: tuple[tuple[str, str], ...] = (
    ("*migrat*", _MIGRATION),
    ("*MIGRATION*", _MIGRATION),
    ("snapshot-*", _MIGRATION),
    ("*colo*", _MIGRATION),
    ("COLO_EXIT", _MIGRATION),
    ("UNPLUG_PRIMARY", _MIGRATION),
    ("FAILOVER_NEGOTIATED", _MIGRATION),
    ("*dirty-rate", _MIGRATION),
    ("*vcpu-dirty-limit", _MIGRATION),
    ("announce-self", _MIGRATION),
    ("xen-*", _MIGRATION),
    ("query-xen-*", _MIGRATION),
    ("*-job*", _BLOCK_JOBS),
    ("blockdev-create arguments*", _BLOCK),
    ("query-stats*", "there is no cryptodev"),
    ("*bitmap*", _BLOCK_JOBS),
    ("transaction arguments*", _BLOCK_JOBS),
    ("blockdev-backup arguments*", _BLOCK_JOBS),
    ("blockdev-mirror arguments*", _BLOCK_JOBS),
    ("blockdev-snapshot*", _BLOCK_JOBS),
    ("block-commit", _BLOCK_JOBS),
    ("block-stream", _BLOCK_JOBS),
    ("change-backing-file", _BLOCK_JOBS),
    ("drive-*", _BLOCK_JOBS),
    ("blockdev-set-active", _BLOCK_JOBS),
    ("x-blockdev-*", _BLOCK_JOBS),
    ("x-debug-query-block-graph", _BLOCK_JOBS),
    ("*block-export*", _EXPORTS),
    ("nbd-server-*", _EXPORTS),
    ("blockdev-*-tray", _MEDIA),
    ("blockdev-*-medium", _MEDIA),
    ("eject", _MEDIA),
    ("DEVICE_TRAY_MOVED", _MEDIA),
    ("BLOCK_IMAGE_CORRUPTED", "raw images have nothing that could be corrupt"),
    ("block-latency-histogram-set", "no histograms"),
    ("device-sync-config", _BLOCK),
    ("QUORUM_*", "no quorum driver"),
    ("*pr-manager*", "no persistent reservations"),
    ("PR_MANAGER_STATUS_CHANGED", "no persistent reservations"),
    ("*hv-balloon*", "no balloon of Hyper-V"),
    ("HV_BALLOON_*", "no balloon of Hyper-V"),
    ("*vnc*", _DISPLAY),
    ("VNC_*", _DISPLAY),
    ("*spice*", _DISPLAY),
    ("SPICE_*", _DISPLAY),
    ("*display*", _DISPLAY),
    ("*_password", _DISPLAY),
    ("screendump", _DISPLAY),
    ("send-key", _DISPLAY),
    ("input-send-event", _DISPLAY),
    ("query-mice", _DISPLAY),
    ("query-audiodevs", "there is no sound"),
    ("cxl-*", "no CXL"),
    ("*rocker*", "no such device"),
    ("*cryptodev*", "no such device"),
    ("*acpi*", "the guests' machines are described by device trees, there is no ACPI"),
    ("ACPI_*", "the guests' machines are described by device trees, there is no ACPI"),
    ("query-vm-generation-id", "no such device"),
    ("VFU_*", "no such device"),
    ("query-tpm", "there is no TPM; the lists of models and types are empty"),
    ("request-ebpf", "no eBPF"),
    ("*replay*", "runs are repeated by their seed, not by a recording"),
    ("x-query-opcount", "the counters of QEMU's own translator; QEMU 10.0 answers that they aren't compiled in"),
    ("x-query-usb", "no USB"),
    ("x-query-virtio*", "not built yet"),
    ("set-numa-node arguments*", "no tables of latencies and caches, no nodes with a mere size of memory"),
    ("MEMORY_DEVICE_SIZE_CHANGE", "no memory device that guests resize"),
    ("MEMORY_FAILURE", "no host memory failure is reported"),
    ("SUSPEND*", "no machine has a state of sleep"),
    ("WAKEUP", "no machine has a state of sleep"),
    ("GUEST_PVSHUTDOWN", "no pvpanic device"),
    ("GUEST_CRASHLOADED", "no pvpanic device"),
    ("RTC_CHANGE", "the clocks of machines here can't be told by their guests"),
    ("*dump* arguments.format*", "core files are what debuggers of every target read"),
    ("DEVICE_UNPLUG_GUEST_ERROR", "not built yet"),
    ("NIC_RX_FILTER_CHANGED", "network devices have no receive filter"),
    ("NETDEV_*", _NETDEV),
    ("trace-event-*", "not built yet"),
    # Parts of commands.
    ("query-block answer*", _BLOCK),
    ("query-blockstats answer*", _BLOCK),
    ("blockdev-add arguments*", _BLOCK),
    ("chardev-* arguments*", _CHARDEV),
    ("netdev_add arguments*", _NETDEV),
    ("object-add arguments.qom-type=rng-*", "`opened` is deprecated in QEMU, and does nothing there"),
    ("object-add arguments.qom-type=memory-backend-*", "no thread contexts, persistent memory or aligned mappings"),
    ("object-add arguments.qom-type=iothread*", "an iothread is one thread, it has no pool of others"),
    ("object-add arguments*", _OBJECTS),
)  # fmt: skip


def reason(finding: Finding) -> str | None:
    """Why this difference is there; None if nobody has said."""
    text = f"{finding.name} {finding.where}".strip()
    return next((why for pattern, why in REASONS if fnmatchcase(text, pattern)), None)


def by_reason(findings: Iterable[Finding]) -> Mapping[str, list[Finding]]:
    """The findings grouped by their reason, "" for those without one, in the order of `REASONS`."""
    groups: dict[str, list[Finding]] = {why: [] for _, why in REASONS}
    for finding in findings:
        groups.setdefault(reason(finding) or "", []).append(finding)
    return {why: group for why, group in groups.items() if group}
