"""The commands' handlers, a module a topic, named as the schema's modules are."""

from __future__ import annotations

from ratite.daemon.commands import (
    accelerator,
    block,
    char,
    control,
    inspect,
    inventory,
    machine,
    machine_file,
    migration,
    misc,
    net,
    pci,
    qdev,
    qom,
    report,
    run_state,
    tpm,
    view,
    wiring,
    yank,
)

MODULES = (
    accelerator,
    block,
    char,
    control,
    inspect,
    inventory,
    machine,
    machine_file,
    migration,
    misc,
    net,
    pci,
    qdev,
    qom,
    report,
    run_state,
    tpm,
    view,
    wiring,
    yank,
)
