"""`secret`: where it comes from, how it is written, and secrets under other secrets; wordings as QEMU 10.0's."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ratite.core.backends.secret import LIMIT, Secret
from ratite.core.clock import VirtualClock
from ratite.core.machine import Machine
from ratite.core.objects.registry import TypeRegistry
from ratite.qapi.errors import GenericError

KEY = base64.b64encode(bytes(range(32))).decode()
IV = base64.b64encode(bytes(16)).decode()
# "sesame", and a block whose padding is wrong, under that key.
SESAME, PADDED = "Pr8Pj03otGX+4cc1Y5N6LA==", "YKymiLZy3NxFyFDMV1CaaA=="


@pytest.fixture
def machine() -> Machine:
    made = Machine(TypeRegistry(), "test", autostart=False, clock=VirtualClock(manual=True), inline=True)
    made.exit_preconfig()
    made.create_object("secret", "key", {"data": KEY, "format": "base64"})
    made.create_object("secret", "short", {"data": "short"})
    made.create_object("memory-backend-ram", "ram", {"size": 4096})
    return made


def value(machine: Machine, **props: Any) -> bytes:
    made = machine.create_object("secret", "s", props)
    assert isinstance(made, Secret)
    found = made.value()
    machine.delete_object("s")
    return found


def test_where_it_comes_from(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"open\n\xff")
    (tmp_path / "coded").write_text("b3Bl\nbg==\n")
    assert value(machine, data="op\u00ebn") == "op\u00ebn".encode()
    assert value(machine, file=str(tmp_path / "raw")) == b"open\n\xff"
    assert value(machine, file=str(tmp_path / "coded"), format="base64") == b"open"
    assert value(machine, data="") == b""


@pytest.mark.parametrize(("props", "why"), [
    ({}, "Either 'file' or 'data' must be provided"),
    ({"data": "x", "file": ""}, "'file' and 'data' are mutually exclusive"),
    ({"file": "/nope"}, "Unable to read /nope: Failed to open file \u201c/nope\u201d: No such file or directory"),
    ({"file": "/"}, "Unable to read /: Error reading file \u201c/\u201d: Is a directory"),
    ({"data": "!!", "format": "base64"}, "Base64 data contains invalid characters"),
    ({"data": "x", "keyid": "zz", "iv": IV}, "No secret with id 'zz'"),
    ({"data": "x", "keyid": "ram", "iv": IV}, "Object with id 'ram' is not a secret"),
    ({"data": "x", "keyid": "short", "iv": IV}, "Key should be 32 bytes in length"),
    ({"data": "x", "keyid": "key"}, "IV is required to decrypt secret"),
    ({"data": "x", "keyid": "key", "iv": "AAAA"}, "IV should be 16 bytes in length not 3"),
    ({"data": "hello", "keyid": "key", "iv": IV}, "Length 5 must be a multiple of block size 16"),
    ({"data": "x", "keyid": "s", "iv": IV}, "secret 's' is encrypted with itself"),
    ({"data": "x", "format": "zz"}, "Parameter 'format' does not accept value 'zz'"),
])  # fmt: skip
def test_refusals(machine: Machine, props: dict[str, Any], why: str) -> None:
    with pytest.raises(GenericError) as told:
        machine.create_object("secret", "s", props)
    assert told.value.desc == why and "s" not in machine.tree.objects.children


def test_a_file_without_an_end_is_refused(machine: Machine) -> None:
    with pytest.raises(GenericError, match=f"longer than {LIMIT} bytes"):
        machine.create_object("secret", "s", {"file": "/dev/zero"})


def test_a_pipe_that_says_nothing_is_refused(machine: Machine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    with pytest.raises(GenericError, match=r"Error reading file .*: Resource temporarily unavailable"):
        machine.create_object("secret", "s", {"file": str(pipe)})
    os.close(writer)


def test_under_a_key(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    assert value(machine, data=SESAME, keyid="key", iv=IV, format="base64") == b"sesame"
    assert value(machine, data="", keyid="key", iv=IV) == b""
    with pytest.raises(GenericError, match=r"Incorrect number of padding bytes \(17\) found on decrypted data"):
        value(machine, data=PADDED, keyid="key", iv=IV, format="base64")


def test_a_chain_of_any_length() -> None:
    """Each is the key of the one before; the first is asked for first."""
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    key = base64.b64decode(KEY)
    steps = ciphers.Cipher(ciphers.algorithms.AES(key), ciphers.modes.CBC(bytes(16))).encryptor()
    wrapped = base64.b64encode(steps.update(key + bytes([16]) * 16) + steps.finalize()).decode()
    machine = Machine(TypeRegistry(), "test", autostart=False, clock=VirtualClock(manual=True), inline=True)
    count = 1500
    for n in range(count):
        machine.create_object("secret", f"s{n}", {"data": wrapped, "keyid": f"s{n + 1}", "iv": IV, "format": "base64"})
    with pytest.raises(GenericError, match=f"No secret with id 's{count}'"):
        machine.exit_preconfig()
    machine.create_object("secret", f"s{count}", {"data": KEY, "format": "base64"})
    machine.exit_preconfig()
    first = machine.resolve("s0")
    assert isinstance(first, Secret) and first.value() == key


def test_without_the_library_it_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(GenericError, match="cryptography is not installed"):
        value(machine, data=SESAME, keyid="key", iv=IV, format="base64")


def test_keys_may_come_later_and_stay_while_needed() -> None:
    machine = Machine(TypeRegistry(), "test", autostart=False, clock=VirtualClock(manual=True), inline=True)
    pytest.importorskip("cryptography")
    machine.create_object("secret", "a", {"data": SESAME, "keyid": "b", "iv": IV, "format": "base64"})
    machine.create_object("secret", "b", {"data": KEY, "format": "base64"})
    machine.exit_preconfig()
    found = machine.resolve("a")
    assert isinstance(found, Secret) and found.value() == b"sesame"
