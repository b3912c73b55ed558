"""The human monitor: a subset of QEMU's, as text with `\r\n`."""
