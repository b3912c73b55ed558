"""What a control plane allows, as its command line says it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from ratite.core.hostfiles import EXEC, NET, PTY, Root, open_root
from ratite.daemon.control.plane import DEFAULT_LIMITS, INSTANCES_DEFAULT, LIMIT_MAX, LIMIT_MIN, NO_GROUPS, Settings

if TYPE_CHECKING:
    from ratite.daemon.control.cgroups import Groups
    from ratite.daemon.options import Options

PERMISSIONS = (EXEC, PTY, NET)
LIMITS = ("ram", "vcpus", "files", "processes", "events", "log")
INSTANCES = "instances"
# They go to each instance as descriptors, and one message takes no more of these (SCM_MAX_FD is 253).
DIRS_MAX = 50

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"(\d{1,18})([KMGT]?)")


class SettingsError(Exception):
    """The command line says what can't be; the text says what and where."""


def read_settings(options: Options, groups: Groups | None = None) -> Settings:
    """SettingsError."""
    limits = dict(DEFAULT_LIMITS)
    for text in options.limit:
        name, _, value = text.partition("=")
        found = _SIZE.fullmatch(value)
        if name not in (*LIMITS, INSTANCES) or found is None:
            raise SettingsError(f"--limit must be NAME=VALUE with NAME {', '.join(LIMITS)} or {INSTANCES}, not {text!r}")
        limits[name] = int(found[1]) << 10 * " KMGT".index(found[2] or " ")
    for name, number in limits.items():
        if not LIMIT_MIN.get(name, 0) <= number <= LIMIT_MAX:
            raise SettingsError(f"--limit {name} must be {LIMIT_MIN.get(name, 0)} to {LIMIT_MAX}, not {number}")
    for text in options.permit:
        if text not in PERMISSIONS:
            raise SettingsError(f"--permit must be {', '.join(PERMISSIONS)}, not {text!r}")
    most = limits.pop(INSTANCES, INSTANCES_DEFAULT)
    if len(options.allow_dir) > DIRS_MAX:
        raise SettingsError(f"--allow-dir may be given {DIRS_MAX} times")
    roots = tuple(_root(text) for text in options.allow_dir)
    if len({root.name for root in roots}) < len(roots):
        raise SettingsError("--allow-dir must give each NAME once")
    permissions = tuple(dict.fromkeys(options.permit))
    settings = Settings(tuple(options.allow), limits, most, options.log_level, roots, permissions, groups)
    for name in limits:
        if not settings.held[name]:
            raise SettingsError(f"--limit {name} can't be held on this host: {NO_GROUPS}")
    return settings


def _root(text: str) -> Root:
    name, equals, path = text.partition("=")
    writable = path.endswith(":rw")
    path = path.removesuffix(":rw")
    if not equals or not path or not _NAME.fullmatch(name):
        raise SettingsError(f"--allow-dir must be NAME=DIR or NAME=DIR:rw, not {text!r}")
    try:
        return open_root(name, os.path.realpath(path), writable)
    except OSError as error:
        raise SettingsError(f"--allow-dir {text!r}: {error.strerror}") from None
