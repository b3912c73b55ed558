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
    misc,
    net,
    pci,
    qdev,
    qom,
    run_state,
    view,
    wiring,
    yank,
)

MODULES = (
    accelerator, block, char, control, inspect, inventory, machine, machine_file, misc, net, pci, qdev, qom, run_state, view,
    wiring, yank,
)  # fmt: skip
