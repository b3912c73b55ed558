"""Options that are settings of the daemon: names, run state, process.  A function each, in `SETTINGS` by the option's key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ratite.daemon.options import UsageError, uuid_of
from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.options import LOG_ITEMS
from ratite.daemon.personality.start import Start, Step
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
    start.actions.append(Step("set-action", {"shutdown": "pause"}, given.written))


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
    order = found.get("order", "")
    for letter in order:
        if not "a" <= letter <= "p":
            raise CommandLineError(f"Invalid boot device '{letter}'")
        if order.count(letter) > 1:
            raise CommandLineError(f"Boot device '{letter}' was given twice")


def _overcommit(start: Start, given: Given) -> None:
    for key, value in values(given).items():
        if as_bool(key, value):
            raise CommandLineError(f"{key}: must be 'off': there is nothing else here")


def _msg(start: Start, given: Given) -> None:
    # Obeyed where messages are printed.
    for key, value in values(given).items():
        as_bool(key, value)


def _audiodev(start: Start, given: Given) -> None:
    found = json_value(given.value) if is_json(given.value) else dict(pairs(given.value, "driver"))
    if not isinstance(found, dict) or found.get("driver") != "none":
        raise CommandLineError("driver must be 'none': there is nothing else here")


def _rtc(start: Start, given: Given) -> None:
    found = values(given)
    for key, only_one in ("base", "utc"), ("clock", "host"):
        if found.get(key, only_one) != only_one:
            raise CommandLineError(f"{key}: must be '{only_one}': there is nothing else here")


def _action(start: Start, given: Given) -> None:
    start.actions.append(Step("set-action", dict(values(given)), given.written))


def _watchdog_action(start: Start, given: Given) -> None:
    start.actions.append(Step("set-action", {"watchdog": given.value}, given.written))


def _compat(start: Start, given: Given) -> None:
    for key, value in values(given).items():
        mark, _, side = key.partition("-")
        if value not in (("accept", "reject") if side == "input" else ("accept", "hide")):
            raise CommandLineError(f"Parameter '{key}' does not accept value '{value}'")
        fact = f"{'REJECT' if side == 'input' else 'HIDE'}_{mark.upper()}"
        (start.policy.discard if value == "accept" else start.policy.add)(fact)


def _no_reboot(start: Start, given: Given) -> None:
    start.actions.append(Step("set-action", {"reboot": "shutdown"}, given.written))


def _log_items(start: Start, given: Given) -> None:
    for item in given.value.split(","):
        if item not in LOG_ITEMS:
            raise CommandLineError(f"there is no log item '{item}'; there are: {', '.join(LOG_ITEMS)}")


def _geometry(start: Start, given: Given) -> None:
    raise CommandLineError("Option not supported for this target")


def _run_with(start: Start, given: Given) -> None:
    start.user = values(given).get("user", start.user)
    if start.user:
        user_of(start.user)


def user_of(text: str) -> tuple[int, int]:
    """Ids of the user and group of a user's name or of "UID:GID".  CommandLineError."""
    uid, colon, gid = text.partition(":")
    if colon and uid.isdecimal() and gid.isdecimal():
        return int(uid), int(gid)
    try:
        from pwd import getpwnam

        found = getpwnam(text)
    except (ImportError, KeyError):
        raise CommandLineError(f'User "{text}" doesn\'t exist (and is not <uid>:<gid>)') from None
    return found.pw_uid, found.pw_gid


def _nothing(start: Start, given: Given) -> None:
    """What it asks for is so anyway."""


SETTINGS: Mapping[str, Setting] = MappingProxyType({
    "name": _name,
    "rtc": _rtc,
    "action": _action,
    "compat": _compat,
    "no-reboot": _no_reboot,
    "watchdog-action": _watchdog_action,
    "run-with": _run_with,
    "uuid": _uuid,
    "S": _paused,
    "no-shutdown": _no_shutdown,
    "pidfile": _pidfile,
    "D": _log_file,
    "d": _log_items,
    "g": _geometry,
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
