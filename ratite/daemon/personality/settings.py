"""Options that are settings of the daemon: names, run state, process.  A function each, in `SETTINGS` by the option's key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ratite.daemon.options import UsageError, uuid_of
from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.start import Start
from ratite.daemon.personality.syntax import CommandLineError, as_bool, checked, is_json, json_value, pairs

Setting = Callable[[Start, Given], None]


def values(given: Given) -> dict[str, str]:
    """The texts of an option whose parameters are a fixed list.  CommandLineError."""
    return checked(pairs(given.value, given.option.implied), given.option.parameters)


def only(*words: str) -> Setting:
    """An option that says what is so anyway."""

    def setting(start: Start, given: Given) -> None:
        if given.value.partition(",")[0] not in words:
            raise CommandLineError(f"must be '{words[0]}': there is nothing else here")

    return setting


def _name(start: Start, given: Given) -> None:
    found = values(given)
    if "debug-threads" in found:
        as_bool("debug-threads", found["debug-threads"])
    start.options.name = found.get("guest", start.options.name)


def _uuid(start: Start, given: Given) -> None:
    try:
        start.options.uuid = uuid_of(given.value)
    except UsageError:
        raise CommandLineError("failed to parse UUID string: wrong format") from None


def _paused(start: Start, given: Given) -> None:
    start.options.paused = True


def _no_shutdown(start: Start, given: Given) -> None:
    start.options.no_shutdown = True


def _pidfile(start: Start, given: Given) -> None:
    start.options.pidfile = given.value


def _log_file(start: Start, given: Given) -> None:
    start.options.log_file = given.value


def _background(start: Start, given: Given) -> None:
    start.background = True


def _preconfig(start: Start, given: Given) -> None:
    start.preconfig = True


def _boot(start: Start, given: Given) -> None:
    found = values(given)
    as_bool("strict", found.get("strict", "off"))


def _overcommit(start: Start, given: Given) -> None:
    for key, value in values(given).items():
        if as_bool(key, value):
            raise CommandLineError(f"{key}: must be 'off': there is nothing else here")


def _msg(start: Start, given: Given) -> None:
    found = values(given)
    start.timestamp = as_bool("timestamp", found.get("timestamp", "off"))
    start.guest_name = as_bool("guest-name", found.get("guest-name", "off"))


def _audiodev(start: Start, given: Given) -> None:
    found = json_value(given.value) if is_json(given.value) else dict(pairs(given.value, "driver"))
    if not isinstance(found, dict) or found.get("driver") != "none":
        raise CommandLineError("driver must be 'none': there is nothing else here")


def _nothing(start: Start, given: Given) -> None:
    """What it asks for is so anyway."""


SETTINGS: Mapping[str, Setting] = MappingProxyType({
    "name": _name,
    "uuid": _uuid,
    "S": _paused,
    "no-shutdown": _no_shutdown,
    "pidfile": _pidfile,
    "D": _log_file,
    "daemonize": _background,
    "preconfig": _preconfig,
    "boot": _boot,
    "overcommit": _overcommit,
    "msg": _msg,
    "no-user-config": _nothing,
    "vga": only("none"),
    "display": only("none"),
    "parallel": only("none", "null"),
    "audiodev": _audiodev,
    "sandbox": only("off", "enable=off"),
})  # fmt: skip
