"""The commands' handlers, a module a topic, named as the schema's modules are; each is imported when a command of its is first
executed: a start has no time for all of them.  A test holds the table to what the modules say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: the commands of each module
MODULES: Mapping[str, str] = MappingProxyType({
    "accelerator": "query-kvm query-accelerators query-jit x-query-jit",
    "balloon": "balloon query-balloon",
    "block": (
        "blockdev-add blockdev-del blockdev-reopen block_resize block-set-write-threshold block_set_io_throttle "
        "query-named-block-nodes query-block query-blockstats"
    ),
    "block_export": "nbd-server-start nbd-server-stop block-export-add block-export-del query-block-exports",
    "block_job": (
        "blockdev-mirror blockdev-backup transaction block-job-cancel block-job-pause block-job-resume "
        "block-job-set-speed block-job-complete block-job-finalize block-job-dismiss"
    ),
    "char": (
        "query-chardev query-chardev-backends chardev-add chardev-change chardev-remove chardev-attach "
        "chardev-send-break ringbuf-write ringbuf-read"
    ),
    "command_line": "query-command-line-options",
    "control": "qmp_capabilities query-version query-commands query-qmp-schema quit",
    "dump": "dump-guest-memory query-dump query-dump-guest-memory-capability",
    "inspect": "query-topology query-memory-map query-memory memory-write query-registers",
    "inventory": "query-targets query-device-types query-modules",
    "job": "query-jobs query-block-jobs job-cancel job-pause job-resume job-complete job-dismiss job-finalize blockdev-create",
    "machine": (
        "query-target query-cpus-fast query-cpu-definitions query-cpu-model-expansion query-memory-size-summary "
        "query-memory-devices set-numa-node query-memdev memsave pmemsave dumpdtb"
    ),
    "machine_file": "machine-dump",
    "machine_types": "query-machines query-current-machine query-hotpluggable-cpus",
    "migration": "query-migrate-capabilities migrate-set-capabilities",
    "misc": (
        "query-iothreads query-name query-uuid getfd closefd monitor-add add-fd remove-fd add_client query-fdsets "
        "human-monitor-command"
    ),
    "net": "netdev_add netdev_del set_link query-rx-filter",
    "pci": "query-pci",
    "qdev": "device-list-properties device_add device-add device_del device-del",
    "qom": "qom-list qom-get qom-set qom-list-get qom-list-types qom-list-properties object-add object-del",
    "report": "x-query-roms x-query-ramblock x-query-irq x-query-interrupt-controllers x-query-numa",
    "run_state": (
        "query-status stop cont system_reset set-action watchdog-set-action system_wakeup inject-nmi system_powerdown "
        "x-exit-preconfig"
    ),
    "stats": "query-stats query-stats-schemas",
    "tpm": "query-tpm-models query-tpm-types",
    "view": "query-view view-select",
    "wiring": "query-machine-phase machine-create wire-irq map-region unwire-irq unmap-region query-wiring machine-wire",
    "yank": "yank query-yank",
})  # fmt: skip


def load_all() -> None:
    """Import all of them, ahead of many that execute commands."""
    from importlib import import_module

    for name in MODULES:
        import_module(f"{__name__}.{name}")
