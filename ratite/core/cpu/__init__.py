"""CPUs and their clusters.  A CPU type of a target derives from `base.Cpu`."""

from __future__ import annotations

# Types of this package, for the manifest.
TYPES = ("ratite.core.cpu.cluster:CpuCluster", "ratite.core.cpu.base:Cpu")
