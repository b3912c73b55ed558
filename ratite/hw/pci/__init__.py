"""PCI Express.

    host.py      gpex-pcihost: ECAM, windows, INTx     bus.py       a bus: functions by address, hot plug
    function.py  what every function has               bridge.py    type 1 headers: bus numbers, windows
    config.py    configuration space                   root_port.py a slot with native hot plug
    msi.py       MSI, MSI-X                            express.py   the PCI Express capability
    mapping.py   where BARs are seen                   regs.py      numbers of the specification
"""
