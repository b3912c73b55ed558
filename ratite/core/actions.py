"""What a machine does when its guest wants to reboot, powers off, panics, or a watchdog fires: what `set-action` sets.

    reboot     reset: the machine is reset               shutdown: it powers off instead, for a client's reset as well
    shutdown   poweroff: the machine ends                pause: it stops, to be looked at (status shutdown)
    panic      pause: the machine stops (guest-panicked) shutdown, exit-failure: it powers off, with exit code 0 or 1
               none: the CPU that can't go on stays so, the others run
               UNTOLD: the same, and only the log says so; nobody can choose it
    watchdog   reset, poweroff, pause (status watchdog)  shutdown: power buttons are pressed    debug: a line in the log
               none; inject-nmi: where a CPU has that line
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ratite.qapi.errors import GenericError

# An action's values, the default first.
ACTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "reboot": ("reset", "shutdown"),
    "shutdown": ("poweroff", "pause"),
    "panic": ("pause", "shutdown", "exit-failure", "none"),
    "watchdog": ("reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"),
})  # fmt: skip


# QEMU's boards have no device that tells of panics: there such a CPU takes traps for ever, and nobody hears of it.
UNTOLD = "untold"


class Actions:
    """A machine's choice, an attribute an action."""

    def __init__(self) -> None:
        self.reboot, self.shutdown, self.panic, self.watchdog = (values[0] for values in ACTIONS.values())

    def set(self, chosen: Mapping[str, str]) -> None:
        """Change some of them; GenericError, and none is changed, for a value that an action hasn't."""
        for name, value in chosen.items():
            if value not in ACTIONS[name]:
                raise GenericError(f"Parameter '{name}' does not accept value '{value}'")
        for name, value in chosen.items():
            setattr(self, name, value)
