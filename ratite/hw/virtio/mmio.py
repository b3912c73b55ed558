"""virtio-mmio: one virtio device behind registers.  Virtio 1.2, section 4.2, version 2 (no legacy).

The transport is a bus that takes one device (`virtio-*-device` with `bus`), before the machine is started.  Registers are
words, little-endian; the configuration space begins at 0x100 and takes any width.  With no device the DeviceID reads 0,
upon which drivers leave it alone.

Left out: shared memory regions (their length reads all ones: there is none), QueueReset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ratite.core.device import Window
from ratite.core.fdt import DeviceTree
from ratite.core.objects.props import config, state
from ratite.hw.virtio.bus import VirtioBusController
from ratite.qapi.errors import GenericError

SIZE = 0x200
CONFIG = 0x100
MAGIC, VERSION, VENDOR = 0x74726976, 2, 0x554D4551
USED_BUFFER, CONFIG_CHANGE = 1, 2

# Offset → name: of registers that are read by _read_NAME(), and of those written by _write_NAME(value).
READS: Mapping[int, str] = MappingProxyType(
    {
        0x000: "magic", 0x004: "version", 0x008: "device_id", 0x00C: "vendor", 0x010: "device_features", 0x034: "queue_max",
        0x044: "queue_ready", 0x060: "interrupt_status", 0x070: "status", 0x0B0: "none", 0x0B4: "none", 0x0B8: "none",
        0x0BC: "none", 0x0FC: "generation",
    }
)  # fmt: skip
WRITES: Mapping[int, str] = MappingProxyType(
    {
        0x014: "device_features_sel", 0x020: "driver_features", 0x024: "driver_features_sel", 0x030: "queue_sel",
        0x038: "queue_num", 0x044: "queue_ready", 0x050: "queue_notify", 0x064: "interrupt_ack", 0x070: "status",
        0x080: "desc_low", 0x084: "desc_high", 0x090: "driver_low", 0x094: "driver_high", 0x0A0: "device_low",
        0x0A4: "device_high", 0x0AC: "shm_sel",
    }
)  # fmt: skip


class VirtioMmio(VirtioBusController):
    """Virtio over MMIO: a bus for one virtio device.  Virtio 1.2, section 4.2."""

    TYPE: ClassVar[str] = "virtio-mmio"
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(SIZE, (1, 8), (1, 4))}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = ({"compatible": ["virtio,mmio"]},)

    force_legacy = config("bool", False, "drivers of before virtio 1.0, which aren't served: off")

    interrupt_status: int = state("uint8", 0, "InterruptStatus", maximum=3)
    device_features_sel: int = state("uint32", 0, "DeviceFeaturesSel")
    driver_features_sel: int = state("uint32", 0, "DriverFeaturesSel")
    queue_sel: int = state("uint32", 0, "QueueSel")

    def fdt_node(self, tree: DeviceTree) -> None:
        tree.node(self, "virtio_mmio", ("virtio,mmio",))["dma-coherent"] = True

    # -- life cycle

    def wire(self) -> None:
        if self.force_legacy:
            raise GenericError("property 'force-legacy': must be 'off': there is no legacy interface here")
        super().wire()
        self._irq = self.out("irq")
        self._reads: dict[int, Callable[[], int]] = {at: getattr(self, f"_read_{name}") for at, name in READS.items()}
        self._writes: dict[int, Callable[[int], None]] = {at: getattr(self, f"_write_{n}") for at, n in WRITES.items()}

    def reset(self) -> None:
        super().reset()
        self._reset_registers()

    def _reset_registers(self) -> None:
        self.interrupt_status = self.device_features_sel = self.driver_features_sel = self.queue_sel = 0
        self._irq.set(0)

    # -- the device's side

    def queue_interrupt(self, index: int) -> None:
        """Buffers were used."""
        self.interrupt_status |= USED_BUFFER
        self._irq.set(1)

    def config_interrupt(self) -> None:
        """The configuration or the status changed."""
        self.interrupt_status |= CONFIG_CHANGE
        self._irq.set(1)

    # -- the bus

    def mmio_read(self, region: str, offset: int, size: int, access: Any = None) -> int:
        if offset >= CONFIG:
            return self.device.read_config(offset - CONFIG, size) if self.device is not None else 0
        read = self._reads.get(offset)
        if read is None or size != 4:
            return self.unmodelled(region, offset, False)
        return read()

    def mmio_write(self, region: str, offset: int, size: int, value: int, access: Any = None) -> None:
        device = self.device
        if offset >= CONFIG:
            if device is not None:
                device.write_config(offset - CONFIG, size, value)
            return
        write = self._writes.get(offset)
        if write is None or size != 4:
            self.unmodelled(region, offset, True)
        elif device is not None:
            write(value)

    # -- registers that are read

    def _read_magic(self) -> int:
        return MAGIC

    def _read_version(self) -> int:
        return VERSION

    def _read_vendor(self) -> int:
        return VENDOR

    def _read_none(self) -> int:
        return 0xFFFFFFFF

    def _read_device_id(self) -> int:
        return 0 if self.device is None else self.device.DEVICE_ID

    def _read_device_features(self) -> int:
        if self.device is None or self.device_features_sel > 1:
            return 0
        return self.device.device_features >> 32 * self.device_features_sel & 0xFFFFFFFF

    def _read_queue_max(self) -> int:
        device = self.device
        return 0 if device is None or self.queue_sel >= len(device.queues) else device.queues[self.queue_sel].num_max

    def _read_queue_ready(self) -> int:
        device = self.device
        return 0 if device is None or self.queue_sel >= len(device.queues) else device.queues[self.queue_sel].ready

    def _read_interrupt_status(self) -> int:
        return self.interrupt_status

    def _read_status(self) -> int:
        return 0 if self.device is None else self.device.device_status

    def _read_generation(self) -> int:
        return 0 if self.device is None else self.device.config_generation

    # -- registers that are written; there is a device

    def _write_device_features_sel(self, value: int) -> None:
        self.device_features_sel = value

    def _write_driver_features_sel(self, value: int) -> None:
        self.driver_features_sel = value

    def _write_driver_features(self, value: int) -> None:
        if self.driver_features_sel < 2 and self.device is not None:
            shift = 32 * self.driver_features_sel
            self.device.accept_features(self.device.driver_features & ~(0xFFFFFFFF << shift) | value << shift)

    def _write_queue_sel(self, value: int) -> None:
        self.queue_sel = value

    def _write_queue_num(self, value: int) -> None:
        if self.device is not None:
            self.device.set_queue(self.queue_sel, "num", value)

    def _write_queue_ready(self, value: int) -> None:
        if self.device is not None:
            if value & 1:
                self.device.enable_queue(self.queue_sel)
            else:
                self.device.disable_queue(self.queue_sel)

    def _write_queue_notify(self, value: int) -> None:
        if self.device is not None:
            self.device.notify(value)

    def _write_interrupt_ack(self, value: int) -> None:
        self.interrupt_status &= ~value
        self._irq.set(self.interrupt_status)

    def _write_status(self, value: int) -> None:
        if self.device is not None:
            self.device.write_status(value)
            if not value & 0xFF:
                self._reset_registers()

    def _write_desc_low(self, value: int) -> None:
        self._set_half("desc", 0, value)

    def _write_desc_high(self, value: int) -> None:
        self._set_half("desc", 32, value)

    def _write_driver_low(self, value: int) -> None:
        self._set_half("driver", 0, value)

    def _write_driver_high(self, value: int) -> None:
        self._set_half("driver", 32, value)

    def _write_device_low(self, value: int) -> None:
        self._set_half("device", 0, value)

    def _write_device_high(self, value: int) -> None:
        self._set_half("device", 32, value)

    def _write_shm_sel(self, value: int) -> None:
        """There are no shared memory regions: whatever is selected isn't there."""

    def _set_half(self, field: str, shift: int, value: int) -> None:
        device = self.device
        if device is not None and self.queue_sel < len(device.queues):
            old = getattr(device.queues[self.queue_sel], field)
            device.set_queue(self.queue_sel, field, old & ~(0xFFFFFFFF << shift) | value << shift)
