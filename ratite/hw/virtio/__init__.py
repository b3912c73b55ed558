"""Virtio 1.2 (OASIS, modern only): devices, their queues, and the MMIO transport.

    device.py   what every device shares, and the interface to a transport      queue.py   split virtqueues
    dma.py      a device's sight of memory                                       mmio.py    the MMIO transport
    bus.py      devices that a client plugs into a transport (`virtio-*-device`)
    blk.py  net.py  rng.py  serial.py    the devices

A guest that breaks the rules of a queue gets its device stopped with DEVICE_NEEDS_RESET, a configuration interrupt and
a line in the log; nothing else is disturbed.
"""
