"""Measurements, each beside QEMU in the same run where it is installed."""
