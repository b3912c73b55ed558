"""ratited's command line: one table, from which the parser, --help and the docs come.

The options are promised stable; tests/daemon/test_options.py pins them.  argparse is not used: it costs
a start more than the session does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option.  `metavar` is empty for a switch; `many` options may repeat."""

    names: tuple[str, ...]
    metavar: str
    many: bool
    text: str

    @property
    def key(self) -> str:
        """Its attribute in Options."""
        return self.names[0].lstrip("-").replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option(("--qmp",), "ADDR", True, "serve QMP at ADDR (see below); may be given several times"),
    Option(("--control",), "ADDR", True, "serve the control plane (JSON-RPC, many machines) at ADDR, instead of --qmp"),
    Option(("--token-file",), "PATH", False, "bearer token of TCP clients of the control plane; read again by SIGHUP"),
    Option(("--tls-cert",), "PATH", False, "certificate chain of the control plane's TCP addresses (PEM)"),
    Option(("--tls-key",), "PATH", False, "its private key"),
    Option(("--host-name",), "NAME", True, "another name by which TCP clients may call the control plane"),
    Option(("--allow-dir",), "NAME=DIR[:rw]", True, "machines of the control plane may open files below DIR (rw: write, too)"),
    Option(("--permit",), "WHAT", True, "what they may do besides: exec, pty or net"),
    Option(("--limit",), "NAME=VALUE", True, "what each may use: ram, vcpus, files, processes, events, log; instances in all"),
    Option(("--allow",), "PATTERN", True, "load only targets, types, accelerators and plug-ins that match a PATTERN"),
    Option(("--paused", "-S"), "", False, "x-exit-preconfig leaves the machine stopped until `cont`"),
    Option(("--no-shutdown", "-no-shutdown"), "", False, "stay when the guest shuts down"),
    Option(("--lifeline",), "FD", False, "end when the pipe or socket inherited as FD is closed at its other end"),
    Option(("--name", "-name"), "NAME", False, "the machine's name (query-name)"),
    Option(("--uuid", "-uuid"), "UUID", False, "the machine's UUID (query-uuid)"),
    Option(("--pidfile", "-pidfile"), "PATH", False, "write the process id to PATH; removed at the end"),
    Option(("--log-level",), "LEVEL", False, "debug, info, warning (the default) or error"),
    Option(("--log-file",), "PATH", False, "append the log to PATH, not to standard error"),
    Option(("--log-json",), "", False, "one JSON object a log line"),
    Option(("--version",), "", False, "print the version and exit"),
    Option(("--help", "-h"), "", False, "print this text and exit"),
)

_HEAD = """\
usage: ratited [options]

An emulator daemon.  It starts empty: no machine, no target, no device.  A client connects, speaks
QMP, looks at what there is, assembles a machine of CPUs of any mix of architectures, and starts it.

options:
"""

_TAIL = """
addresses (for --qmp):
  unix:PATH             listen at a UNIX socket; only its owner can connect.  A dead socket of ours is
                        replaced, a live one is an error.
  tcp:HOST:PORT         listen at a TCP port.  Whoever can connect controls the daemon: keep to localhost.
  fd:N                  listen at the socket that was inherited as file descriptor N
  ...,server=off        connect to the address instead of listening at it.  `-qmp ADDR` is --qmp with this
                        as the default, as QEMU has it and qmp-shell-wrap needs it.

  For --control also
  default               unix:$XDG_RUNTIME_DIR/ratite/control.sock
  systemd               the sockets that systemd has opened
  TCP needs --token-file there, and TLS off loopback.

try it:
  ratited --qmp unix:/tmp/r.sock &
  qmp-shell /tmp/r.sock                      (from `pip install qemu.qmp`; tab completes)
  (QEMU) query-targets
  (QEMU) machine-create

exit status: 0 after `quit`, SIGTERM or the guest's shutdown; 1 when the start fails; 2 for a wrong option.
"""


class UsageError(Exception):
    """The command line is wrong; the text says what and where."""


class Options:
    """The parsed command line, an attribute an option: a list, a string or None, or a bool."""

    qmp: list[str]
    control: list[str]
    token_file: str | None
    tls_cert: str | None
    tls_key: str | None
    host_name: list[str]
    allow_dir: list[str]
    permit: list[str]
    limit: list[str]
    allow: list[str]
    paused: bool
    no_shutdown: bool
    lifeline: str | None
    name: str | None
    uuid: str | None
    pidfile: str | None
    log_level: str
    log_file: str | None
    log_json: bool
    version: bool
    help: bool

    def __init__(self, **values: Any) -> None:
        for option in OPTIONS:
            default: Any = [] if option.many else None if option.metavar else False
            setattr(self, option.key, values.pop(option.key, default))
        self.log_level = self.log_level or "warning"
        if values:
            raise TypeError(f"no option is called {', '.join(values)}")


def parse(argv: Sequence[str]) -> Options:
    """The options in `argv` (without the program's name).  UsageError."""
    by_name = {name: option for option in OPTIONS for name in option.names}
    by_name["-qmp"] = by_name["--qmp"]
    values: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = by_name.get(name)
        if option is None:
            raise UsageError(f"there is no option {name!r}; see ratited --help")
        if not option.metavar:
            if equals:
                raise UsageError(f"option {name} takes no value")
            values[option.key] = True
            continue
        if not equals:
            if not rest:
                raise UsageError(f"option {name} must be followed by {option.metavar}")
            value = rest.pop(0)
        if name == "-qmp" and "server=" not in value:
            value += ",server=off"
        if option.many:
            values.setdefault(option.key, []).append(value)
        elif option.key in values:
            raise UsageError(f"option {name} must be given only once")
        else:
            values[option.key] = value
    return _checked(Options(**values))


def _checked(options: Options) -> Options:
    if options.log_level not in ("debug", "info", "warning", "error"):
        raise UsageError(f"--log-level must be debug, info, warning or error, not {options.log_level!r}")
    if options.qmp and options.control:
        raise UsageError("give --qmp (one machine) or --control (many), not both")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("--tls-cert and --tls-key go together")
    if options.lifeline is not None and not options.lifeline.isdecimal():
        raise UsageError(f"--lifeline must be the number of a file descriptor, not {options.lifeline!r}")
    if options.uuid is not None:
        options.uuid = uuid_of(options.uuid)
    return options


def uuid_of(text: str) -> str:
    """A UUID as query-uuid shows it.  UsageError."""
    digits = text.replace("-", "").lower()
    if len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        raise UsageError(f"--uuid must be 32 hexadecimal digits in groups of 8-4-4-4-12, not {text!r}")
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def help_text() -> str:
    """What --help prints."""
    lines = []
    for option in OPTIONS:
        left = ", ".join(name for name in option.names if name.startswith("--") or len(name) == 2)
        left += f" {option.metavar}" if option.metavar else ""
        lines.append(f"  {left:<20}{option.text}\n")
    return _HEAD + "".join(lines) + _TAIL
