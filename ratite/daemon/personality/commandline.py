"""The words of a command line into options and their values, -readconfig's files among them; nothing is understood yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ratite.daemon.personality.options import BY_NAME, Option, nearest
from ratite.daemon.personality.syntax import CommandLineError

DISK = Option(("",), "FILE", "", "a disk image")


class Given(NamedTuple):
    """An option as it was given: `written` for messages, `value` is "" for a switch."""

    option: Option
    written: str
    value: str

    def error(self, text: str) -> CommandLineError:
        """What is wrong with it."""
        return CommandLineError(f"{self.written}: {text}")

    @contextmanager
    def named(self) -> Iterator[None]:
        """What is raised inside is wrong with it."""
        try:
            yield
        except CommandLineError as error:
            raise self.error(str(error)) from None


def read(words: Sequence[str]) -> list[Given]:
    """The options in order; both `-x` and `--x` are taken, as QEMU does.  CommandLineError."""
    found = []
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise CommandLineError(f"{word!a}: options must be UTF-8") from None
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            found.append(Given(DISK, word, word))
            continue
        name = word[2:] if word.startswith("--") else word[1:]
        option = BY_NAME.get(name)
        if option is None:
            near = nearest(name, BY_NAME)
            raise CommandLineError(f"{word}: invalid option{f' (did you mean -{near}?)' if near else ''}")
        if not option.metavar:
            found.append(Given(option, word, ""))
            continue
        value = next(rest, None)
        if value is None:
            raise CommandLineError(f"{word}: requires an argument")
        found.append(Given(option, f"{word} {value}", value))
    return found
