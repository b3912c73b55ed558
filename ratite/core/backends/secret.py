"""`secret`: a password or key that other objects name by its id, so that it stands in no option and in no process list.

Given as text (`data`) or in a file, as it is or in base64; with `keyid` and `iv` it is encrypted by AES-256 in CBC mode with
PKCS #7 padding under the key that another secret holds.  It is read when the object is wired, keys first wherever they stand.
"""

from __future__ import annotations

import binascii
import errno
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ratite.core.hostfiles import files_of
from ratite.core.objects.obj import Obj
from ratite.core.objects.props import config
from ratite.qapi.errors import GenericError

KEY_SIZE, BLOCK = 32, 16
LIMIT = 1 << 20  # bytes of a file
_FOREIGN = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class Secret(Obj):
    """See the module's head."""

    TYPE: ClassVar[str] = "secret"
    KIND: ClassVar[str] = "object"

    data = config("str", "", "the secret itself")
    file = config("str", "", "a file that holds it")
    format = config("str", "raw", "how it is written there", values=("raw", "base64"))
    keyid = config("str", "", "id of the secret that it is encrypted with")
    iv = config("str", "", "the initialization vector in base64, if it is encrypted")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._value: bytes | None = None

    def configure(self, props: Mapping[str, Any]) -> None:
        """As Obj's; GenericError unless the secret comes from just one place."""
        super().configure(props)
        if {"data", "file"} <= self.given:
            raise GenericError("'file' and 'data' are mutually exclusive")
        if not {"data", "file"} & self.given:
            raise GenericError("Either 'file' or 'data' must be provided")

    def wire(self) -> None:
        """Reads the secret; GenericError in QEMU's words."""
        self.value()

    def unwire(self) -> None:
        """Forgets it."""
        self._value = None

    def value(self) -> bytes:
        """The secret, decrypted."""
        # Any number of secrets may hang on one another: what was read waits for its key.
        waiting: dict[Secret, bytes] = {}
        each = self
        while each._value is None:
            if each in waiting:
                raise GenericError(f"secret '{each.id}' is encrypted with itself")
            found = each._read()
            if "keyid" in each.given:
                waiting[each] = found
                each = each._holder()
            else:
                each._value = found
        key = each._value
        for each, found in reversed(waiting.items()):
            key = each._value = each._decrypted(found, key)
        return key

    def _read(self) -> bytes:
        """As it is written, in base64 no more."""
        found = self._file() if "file" in self.given else self.data.encode()
        return _from_base64(found.decode("latin-1")) if self.format == "base64" else found

    def _file(self) -> bytes:
        try:
            fd = files_of(self).open(self.file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise GenericError(f"Unable to read {self.file}: Failed to open file \u201c{self.file}\u201d: {why}") from None
        try:
            # Of a directory no file is made, and then nobody else would close it.
            with os.fdopen(fd, "rb", closefd=False) as file:
                read = file.read(LIMIT + 1)
            if read is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # a pipe whose writer hasn't written
            found: bytes = read
        except OSError as error:
            raise GenericError(
                f"Unable to read {self.file}: Error reading file \u201c{self.file}\u201d: {error.strerror}"
            ) from None
        finally:
            os.close(fd)
        if len(found) > LIMIT:
            raise GenericError(f"Unable to read {self.file}: it is longer than {LIMIT} bytes")
        return found

    def _holder(self) -> Secret:
        """The secret that is the key."""
        holder = self.machine.tree.objects.children.get(self.keyid)
        if holder is None:
            raise GenericError(f"No secret with id '{self.keyid}'")
        if not isinstance(holder, Secret):
            raise GenericError(f"Object with id '{self.keyid}' is not a secret")
        return holder

    def _decrypted(self, found: bytes, key: bytes) -> bytes:
        if len(key) != KEY_SIZE:
            raise GenericError(f"Key should be {KEY_SIZE} bytes in length")
        if "iv" not in self.given:
            raise GenericError("IV is required to decrypt secret")
        iv = _from_base64(self.iv)
        if len(iv) != BLOCK:
            raise GenericError(f"IV should be {BLOCK} bytes in length not {len(iv)}")
        if len(found) % BLOCK:
            raise GenericError(f"Length {len(found)} must be a multiple of block size {BLOCK}")
        plain = self._decrypt(key, iv, found)
        padding = plain[-1] if plain else 0
        if padding > BLOCK:
            raise GenericError(f"Incorrect number of padding bytes ({padding}) found on decrypted data")
        return plain[: len(plain) - padding]

    def _decrypt(self, key: bytes, iv: bytes, found: bytes) -> bytes:
        try:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        except ImportError:
            raise GenericError(
                f"secret '{self.id}' can't be decrypted: cryptography is not installed (pip install cryptography)"
            ) from None
        steps = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        plain: bytes = steps.update(found) + steps.finalize()
        return plain


def _from_base64(text: str) -> bytes:
    if _FOREIGN.search(text):
        raise GenericError("Base64 data contains invalid characters")
    digits = text.translate({10: None, 13: None}).partition("=")[0]
    # What is left over at the end is no whole byte, and ignored as QEMU does.
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
