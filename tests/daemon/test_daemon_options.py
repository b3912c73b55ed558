"""ratited's command line is promised stable: the table, the parser, the text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ratite.daemon.main import main
from ratite.daemon.options import OPTIONS, UsageError, help_text, parse
from ratite.daemon.qmp.address import Address, AddressError


def test_the_table_is_pinned() -> None:
    assert [(option.names, option.metavar, option.many) for option in OPTIONS] == [
        (("--qmp",), "ADDR", True),
        (("--control",), "ADDR", True),
        (("--token-file",), "PATH", False),
        (("--tls-cert",), "PATH", False),
        (("--tls-key",), "PATH", False),
        (("--host-name",), "NAME", True),
        (("--allow-dir",), "NAME=DIR[:rw]", True),
        (("--permit",), "WHAT", True),
        (("--limit",), "NAME=VALUE", True),
        (("--allow",), "PATTERN", True),
        (("--paused", "-S"), "", False),
        (("--no-shutdown", "-no-shutdown"), "", False),
        (("--lifeline",), "FD", False),
        (("--name", "-name"), "NAME", False),
        (("--uuid", "-uuid"), "UUID", False),
        (("--pidfile", "-pidfile"), "PATH", False),
        (("--log-level",), "LEVEL", False),
        (("--log-file",), "PATH", False),
        (("--log-json",), "", False),
        (("--version",), "", False),
        (("--help", "-h"), "", False),
    ]


def test_parsing() -> None:
    options = parse(["--qmp", "unix:a", "--qmp=unix:b", "-S", "-name", "x", "--log-level=debug"])
    assert options.qmp == ["unix:a", "unix:b"]
    assert options.paused and options.name == "x" and options.log_level == "debug"
    assert not options.no_shutdown and options.uuid is None
    assert parse(["-qmp", "unix:a"]).qmp == ["unix:a,server=off"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "there is no option '--nope'"),
        (["--qmp"], "option --qmp must be followed by ADDR"),
        (["-S", "--name", "a", "--name", "b"], "option --name must be given only once"),
        (["--paused=yes"], "option --paused takes no value"),
        (["--log-level", "loud"], "--log-level must be debug, info, warning or error, not 'loud'"),
        (["--uuid", "x"], "--uuid must be 32 hexadecimal digits"),
        (["--lifeline", "-1"], "--lifeline must be the number of a file descriptor, not '-1'"),
    ],
)
def test_usage_errors_name_place_rule_and_value(arguments: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse(arguments)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("nope", "must be unix:PATH, tcp:HOST:PORT or fd:N"),
        ("unix:", "must be unix:PATH"),
        ("tcp:localhost:99999", "'99999' must be a number from 0 to 65535"),
        ("unix:a,foo=1", "'foo=1' is no option of an address"),
    ],
)
def test_address_errors(address: str, text: str) -> None:
    with pytest.raises(AddressError, match=text):
        Address(address)


def test_addresses() -> None:
    address = Address("tcp:[::1]:80,server=off")
    assert (address.kind, address.place, address.port, address.server) == ("tcp", "::1", 80, False)
    assert Address("unix:/a:b").place == "/a:b"
    assert Address("fd=7").port == 7


def test_help_names_every_option() -> None:
    text = help_text()
    for option in OPTIONS:
        assert option.names[0] in text and option.text in text
    assert max(map(len, text.splitlines())) <= 120


def test_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert main(["--nope"]) == 2
    assert main([]) == 2
    assert main(["--qmp", "unix:/nonexistent/x"]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("ratited ")
    assert "unix:/nonexistent/x" in captured.err


def test_python_m() -> None:
    done = subprocess.run([sys.executable, "-m", "ratite.daemon", "--version"], capture_output=True, text=True, timeout=20)
    assert done.stdout.startswith("ratited ")
