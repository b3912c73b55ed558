"""Device models: one folder a kind, one file a chip.  The head of each file names its specification and what is left out."""

# Types of this package, for the manifest.
TYPES = (
    "ratite.hw.char.ns16550:Ns16550",
    "ratite.hw.char.pl011:Pl011",
    "ratite.hw.char.xlnx_uartlite:XlnxUartlite",
    "ratite.hw.intc.xlnx_intc:XlnxIntc",
    "ratite.hw.irq.or_irq:OrIrq",
    "ratite.hw.irq.split_irq:SplitIrq",
    "ratite.hw.misc.sifive_test:SifiveTest",
    "ratite.hw.misc.unimplemented:Unimplemented",
    "ratite.hw.misc.xlnx_mailbox:XlnxMailbox",
    "ratite.hw.pci.bus:PcieBus",
    "ratite.hw.pci.host:GpexPcihost",
    "ratite.hw.pci.host:GpexRoot",
    "ratite.hw.pci.root_port:PcieRootPort",
    "ratite.hw.rtc.goldfish:GoldfishRtc",
    "ratite.hw.timer.xlnx_timer:XlnxTimer",
    "ratite.hw.virtio.blk:VirtioBlkDevice",
    "ratite.hw.virtio.bus:VirtioBus",
    "ratite.hw.virtio.mmio:VirtioMmio",
    "ratite.hw.virtio.rng:VirtioRngDevice",
    "ratite.hw.virtio.serial:VirtConsole",
    "ratite.hw.virtio.serial:VirtSerialPort",
    "ratite.hw.virtio.serial:VirtioSerialBus",
    "ratite.hw.virtio.serial:VirtioSerialDevice",
)
