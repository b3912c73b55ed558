"""What of earlier runs the daemon finds in its code cache when a guest boots.

    user    the user's own cache, as it is
    first   nothing: tier 0 is compiled (unless the system's cache has it)
    cold    tier 0, but no regions of hot code
    warm    tier 0, and the regions that earlier boots of the same guest have left

All but the first are folders of our own, so that neither the user's cache nor another guest's boots change the times.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

STATES = ("user", "first", "cold", "warm")
# Boots of the guest that fill the folder before one is counted; regions are still added by the second.
_FILLING: Mapping[str, int] = MappingProxyType({"cold": 1, "warm": 3})


class CodeCache:
    """The cache of one guest's boots in one of STATES, below `folder`."""

    def __init__(self, state: str, folder: Path) -> None:
        self.state = state
        self.filling = _FILLING.get(state, 0)
        self._home = folder / state

    @property
    def environment(self) -> Mapping[str, str] | None:
        """The daemon's; None: the client's own."""
        return None if self.state == "user" else {**os.environ, "XDG_CACHE_HOME": str(self._home)}

    def prepare(self) -> None:
        """Before each boot."""
        if self.state == "first":
            shutil.rmtree(self._home, ignore_errors=True)
        elif self.state == "cold":
            for regions in self._home.glob("ratite/regions-*"):
                shutil.rmtree(regions)
        if self.state != "user":
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
