"""A vCPU's way out to devices: the callbacks that native code makes for accesses outside of RAM, one for each size.

A callback gets nothing but the address and, of a store, the value: each argument more costs about 15 ns in ctypes, and the
whole about 0.1 us; a return from native code with a record of the access would cost the same for the way out and in, and would
need generated code that can be left and entered inside an instruction. What the port can look up beforehand is looked up at the
second access of a size at an address (`CpuPort.load_site`) and kept.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from ratite.core.accel.base import CpuPort
from ratite.core.engine import block as B
from ratite.core.isa.emitter import LOAD_FAULT, STORE_FAULT

_Load = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)
_Store = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)

_Site = TypeVar("_Site")

SIZES = (1, 2, 4, 8)
_SITES = 1024  # of one size; the guest chooses them


class BusCallbacks:
    """``fail(kind, addr)`` is told of bus errors, ``broken(error)`` of faults of ours; no callback raises."""

    def __init__(
        self, port: CpuPort, bus_error: type[Exception], fail: Callable[[int, int], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._port = port
        self._bus_error = bus_error
        self._fail = fail
        self._broken = broken
        self._tables: list[set[int] | dict[int, Callable[[], int]] | dict[int, Callable[[int], None]]] = []
        self._loads = {n: _Load(self._load(n)) for n in SIZES}
        self._stores = {n: _Store(self._store(n)) for n in SIZES}

    def words(self) -> Iterator[tuple[int, int]]:
        """(offset in the block, address of a callback)."""
        for first, functions in (B.ON_LOAD, self._loads), (B.ON_STORE, self._stores):
            for k, n in enumerate(SIZES):
                yield first + 8 * k, ctypes.cast(functions[n], ctypes.c_void_p).value or 0

    def forget(self) -> None:
        """The view of memory changed; the vCPU is parked."""
        for table in self._tables:
            table.clear()

    def _load(self, size: int) -> Callable[[int], int]:
        known: dict[int, Callable[[], int]] = {}
        seen: set[int] = set()
        self._tables += [known, seen]
        make, general = self._port.load_site, self._port.mmio_load
        bus_error, fail, broken = self._bus_error, self._fail, self._broken

        def unknown(addr: int) -> int:
            if _is_second(seen, addr):
                _keep(known, addr, make(addr, size) or partial(general, addr, size))
            return general(addr, size)

        def load(addr: int) -> int:
            try:
                read = known.get(addr)
                return unknown(addr) if read is None else read()
            except bus_error:
                fail(LOAD_FAULT, addr)
            except BaseException as error:
                broken(error)
            return 0

        return load

    def _store(self, size: int) -> Callable[[int, int], None]:
        known: dict[int, Callable[[int], None]] = {}
        seen: set[int] = set()
        self._tables += [known, seen]
        make, general = self._port.store_site, self._port.mmio_store
        bus_error, fail, broken = self._bus_error, self._fail, self._broken

        def unknown(addr: int, value: int) -> None:
            if _is_second(seen, addr):
                _keep(known, addr, make(addr, size) or partial(general, addr, size))
            general(addr, size, value)

        def store(addr: int, value: int) -> None:
            try:
                write = known.get(addr)
                if write is None:
                    unknown(addr, value)
                else:
                    write(value)
            except bus_error:
                fail(STORE_FAULT, addr)
            except BaseException as error:
                broken(error)

        return store


def _is_second(seen: set[int], addr: int) -> bool:
    """Whether the address was asked for before; a guest that walks over a device makes no sites."""
    if addr in seen:
        return True
    if len(seen) >= _SITES:
        seen.clear()
    seen.add(addr)
    return False


def _keep(known: dict[int, _Site], addr: int, site: _Site) -> None:
    if len(known) >= _SITES:
        known.clear()
    known[addr] = site
