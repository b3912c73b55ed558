"""Devices bound to harts."""

# Types of this package, for the manifest.
TYPES = (
    "ratite.targets.riscv.devices.aclint:AclintMtimer",
    "ratite.targets.riscv.devices.aclint:AclintSwi",
    "ratite.targets.riscv.devices.plic:SifivePlic",
)
