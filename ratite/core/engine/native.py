"""An ISA's native code in this process: built or found in the cache, loaded, with the templates that vCPUs start from."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Mapping
from importlib import import_module

from ratite.core import log
from ratite.core.engine.block import PAGE_HEADER, RECORD, Shape
from ratite.core.engine.cache import ObjectCache, source_digest
from ratite.core.engine.compiler import compile_text, describe_host
from ratite.core.engine.elf import BadObject, LoadedObject
from ratite.core.engine.fresh import FreshPages
from ratite.core.isa.isa import Isa
from ratite.qapi.kept import key_of

Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Query = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)


class NativeIsa:
    """``run``, ``step`` (block) and ``wake`` (block -> bool) of one ISA; ``fresh``: memory for pages nobody has decoded;
    ``scratch_templates``: the edges behind a single decoded instruction, per context; ``table``: address of tier 0's functions,
    named by ``names``, for regions; ``builder``, ``config``: how the ISA is made; ``key``: what the code depends on, as a
    digest."""

    def __init__(self, isa: Isa, loaded: LoadedObject, builder: str, config: Mapping[str, object], key: str) -> None:
        self.isa = isa
        self.key = key
        self.builder = builder
        self.config = dict(config)
        self.shape = Shape(isa)
        self.object = loaded
        self.run = Entry(self._symbol("run"))
        self.step = Entry(self._symbol("step"))
        self.wake = Query(self._symbol("wake"))
        self.table = self._symbol("table")
        self.names = ctypes.string_at(self._symbol("names")).decode().split()
        libc = ctypes.CDLL(None)
        self.clock_gettime, self.sched_yield = (
            ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (libc.clock_gettime, libc.sched_yield))
        contexts = range(len(isa.contexts))
        self.decode = [struct.pack("<QQ", self._symbol(f"decode_{k}"), 0) for k in contexts]
        edge = [struct.pack("<QQ", self._symbol(f"edge_{k}"), 0) for k in contexts]
        template = b"".join(self.decode[k] * self.shape.slots + edge[k] * self.shape.edges for k in contexts)
        self.fresh = FreshPages(
            bytes(PAGE_HEADER) + template, PAGE_HEADER + len(template) + self.shape.side, shared=len(contexts) > 1)
        self.scratch_templates = [edge[k] * self.shape.scratch_records for k in contexts]
        assert len(template) == self.shape.records and PAGE_HEADER % RECORD == 0

    def _symbol(self, name: str) -> int:
        try:
            return self.object.symbols[f"{self.isa.name}_{name}"]
        except KeyError:
            raise BadObject(f"the object has no symbol {self.isa.name}_{name}") from None


class NativeLibrary:
    """Native code by ISA and configuration; one for all vCPUs of an accelerator."""

    def __init__(self, cache: ObjectCache | None = None) -> None:
        self._cache = cache or ObjectCache()
        self._known: dict[tuple[str, tuple[tuple[str, object], ...]], NativeIsa] = {}

    def get(self, builder: str, config: Mapping[str, object]) -> NativeIsa:
        """The code of the ISA that ``builder`` ("module:function") describes for ``config``. Compiling takes a second or
        two, finding it in the cache milliseconds. Raises CompileFailed or BadObject."""
        key = (builder, tuple(sorted(config.items())))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._load(builder, config)
        return found

    def _load(self, builder: str, config: Mapping[str, object]) -> NativeIsa:
        module, _, function = builder.partition(":")
        isa: Isa = getattr(import_module(module), function)(config)
        key = key_of(
            builder.encode(), repr(sorted(config.items())).encode(), describe_host().encode(),
            source_digest(self._cache, "ratite.core.isa", "ratite.core.engine", module.rpartition(".")[0]))
        data = self._cache.load(key)
        if data is not None:
            try:
                return NativeIsa(isa, LoadedObject(data), builder, config, key)
            except BadObject:
                pass  # made by somebody else's compiler: make it anew
        from ratite.core.engine.tier0 import Tier0

        # Minutes may pass on a slow host, and nothing else would tell why the machine doesn't come.
        log.warn("native code is compiled, once for this host: this takes some seconds", isa=isa.name)
        started = time.monotonic()
        data = compile_text(Tier0(isa).text())
        self._cache.store(key, data)
        log.warn("native code is ready", isa=isa.name, seconds=round(time.monotonic() - started, 1), bytes=len(data))
        return NativeIsa(isa, LoadedObject(data), builder, config, key)
