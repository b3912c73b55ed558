"""What goes along with a bus access, and how one fails.

An access carries who makes it and in which byte order; a device never asks which CPU runs.  A CPU makes its `Access`
objects once (one a privilege level) and passes them by reference, so that an access allocates nothing.
"""

from __future__ import annotations

from ratite.core import log

UNMAPPED = "unmapped"  # nothing answers at the address
SIZE = "size"  # the region takes no access of this size
MISALIGNED = "misaligned"  # the address is no multiple of the size, and the region is no RAM


class Access:
    """The attributes of a bus access.

    `initiator` is the object that makes it (a CPU, a DMA engine; None: the debugger or a loader), `big` its byte order,
    `privilege` and `secure` its mode in its own architecture's terms, `debug` True for what no guest does: such a write
    reaches ROM too.
    """

    __slots__ = ("big", "debug", "initiator", "privilege", "secure")

    def __init__(
        self,
        initiator: object | None = None,
        big: bool = False,
        privilege: int = 0,
        secure: bool = False,
        debug: bool = False,
    ) -> None:
        self.initiator = initiator
        self.big = big
        self.privilege = privilege
        self.secure = secure
        self.debug = debug

    def __repr__(self) -> str:
        order = "big" if self.big else "little"
        return f"Access({self.initiator!r}, {order}, privilege={self.privilege}, debug={self.debug})"


class BusError(Exception):
    """A bus access that nobody answers; the CPU makes its architecture's fault of it.

    `kind` is "unmapped", "size" or "misaligned"; `addr` is the first address at fault.  Never shown to a client.
    """

    def __init__(self, kind: str, addr: int) -> None:
        super().__init__(kind, addr)
        self.kind = kind
        self.addr = addr

    def __str__(self) -> str:
        return f"{self.kind} access at {self.addr:#x}"


class SiteCounter:
    """Counts events by site and logs the first one of each; at most `limit` sites are kept, the total is always exact.

    A guest chooses the sites, so their number must be bounded: past the limit events are only counted.
    """

    __slots__ = ("_limit", "sites", "total")

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self.sites: dict[tuple[object, ...], int] = {}
        self.total = 0

    def hit(self, event: str, **site: object) -> bool:
        """Counts one event at the site that the fields name; logs the line and gives True when it is its first."""
        self.total += 1
        key = (event, *site.values())
        seen = self.sites.get(key)
        if seen is not None:
            self.sites[key] = seen + 1
            return False
        if len(self.sites) >= self._limit:
            return False
        self.sites[key] = 1
        log.warn(event, **site)
        return True
