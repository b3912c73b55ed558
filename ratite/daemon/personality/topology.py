"""-smp: how many CPUs, from sockets, cores and threads of which any may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ratite.daemon.personality.syntax import CommandLineError, number_of

# Levels that there are elsewhere: one of each is no level.
_OTHERS = ("drawers", "books", "dies", "clusters", "modules")
_KEYS = ("cpus", "maxcpus", "sockets", "cores", "threads", *_OTHERS)


class Topology(NamedTuple):
    """`cpus` at the start, `maxcpus` at most, arranged in sockets of cores of threads."""

    cpus: int
    maxcpus: int
    sockets: int
    cores: int
    threads: int


def topology(given: Mapping[str, str], machine: str, most: int) -> Topology:
    """As QEMU completes it: what isn't said of a socket becomes cores.  CommandLineError in its words."""
    numbers = {}
    for key, text in given.items():
        if key not in _KEYS:
            raise CommandLineError(f"Parameter 'smp.{key}' is unexpected")
        number = number_of(text)
        if number is None:
            raise CommandLineError(f"Parameter 'smp.{key}' expects integer")
        numbers[key] = number
    if any(number <= 0 for number in numbers.values()):
        raise CommandLineError("Invalid CPU topology: CPU topology parameters must be greater than zero")
    for key in _OTHERS:
        if numbers.get(key, 1) > 1:
            raise CommandLineError(f"{key} > 1 not supported by this machine's CPU topology")
    made = _completed(numbers)
    levels = f"sockets ({made.sockets}) * cores ({made.cores}) * threads ({made.threads})"
    if made.sockets * made.cores * made.threads != made.maxcpus:
        raise CommandLineError(
            f"Invalid CPU topology: product of the hierarchy must match maxcpus: {levels} != maxcpus ({made.maxcpus})"
        )
    if made.maxcpus < made.cpus:
        raise CommandLineError(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            f"{levels} == maxcpus ({made.maxcpus}) < smp_cpus ({made.cpus})"
        )
    if made.maxcpus > most:
        raise CommandLineError(
            f"Invalid SMP CPUs {made.maxcpus}. The max CPUs supported by machine '{machine}' is {most}"
        )
    return made


def _completed(numbers: Mapping[str, int]) -> Topology:
    cpus, most = numbers.get("cpus", 0), numbers.get("maxcpus", 0)
    sockets, cores, threads = (numbers.get(key, 0) for key in ("sockets", "cores", "threads"))
    wanted = most or cpus
    if not wanted:
        sockets, cores, threads = sockets or 1, cores or 1, threads or 1
    elif not cores:
        sockets, threads = sockets or 1, threads or 1
        cores = wanted // (sockets * threads)
    elif not sockets:
        threads = threads or 1
        sockets = wanted // (cores * threads)
    elif not threads:
        threads = wanted // (sockets * cores)
    most = most or cpus or sockets * cores * threads
    return Topology(cpus or most, most, sockets, cores, threads)
