"""Options into a `Start`: settings at once, what makes the machine when everything is read, so that order means nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ratite.daemon.personality import chardevs
from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.settings import SETTINGS, values
from ratite.daemon.personality.start import MonitorAt, Start, Step
from ratite.daemon.personality.syntax import CommandLineError, as_bool, pairs

EMPTY = "none"
LIST_MACHINES = "Use -machine help to list supported machines"


class Translator:
    """One command line."""

    def __init__(self, program: str, target: str, given: Sequence[Given]) -> None:
        self.start = Start(program, target)
        self._given = given
        self._machine: dict[str, str] = {}

    def translate(self) -> Start:
        """What it comes to.  CommandLineError."""
        for given in self._given:
            setting = SETTINGS.get(given.option.key)
            if setting is not None:
                with given.named():
                    setting(self.start, given)
        self._machine_type()
        for given in self._of("chardev"):
            self._chardev(given)
        self._monitors()
        return self.start

    def _of(self, *keys: str) -> list[Given]:
        return [given for given in self._given if given.option.key in keys]

    # -- the machine

    def _machine_type(self) -> None:
        for given in self._of("machine"):
            self._machine.update(pairs(given.value, given.option.implied))
        self._accelerator()
        kind = self._machine.pop("type", "")
        if not kind:
            raise CommandLineError(f"No machine specified, and there is no default\n{LIST_MACHINES}")
        if kind != EMPTY:
            raise CommandLineError(f'unsupported machine type: "{kind}"\n{LIST_MACHINES}')
        self.start.machine = kind

    def _accelerator(self) -> None:
        """The first of those that are wished for which there is."""
        wished = [(f"invalid accelerator {name}", name) for name in self._machine.pop("accel", "").split(":") if name]
        for given in self._of("accel"):
            name = dict(pairs(given.value, given.option.implied)).get("accel", "")
            if wished and not wished[0][0].startswith("-"):
                raise CommandLineError('The -accel and "-machine accel=" options are incompatible')
            wished.append((f"{given.written}: invalid accelerator {name}", name))
        if wished and not any(name == "tcg" for _, name in wished):
            raise CommandLineError("\n".join(text for text, _ in wished))

    # -- chardevs and monitors

    def _chardev(self, given: Given) -> None:
        with given.named():
            name, backend, _mux = chardevs.from_group(given.value, self._name_fd)
        if self._chardev_step(name) is not None:
            raise given.error(f"Duplicate ID '{name}' for chardev")
        self.start.steps.append(Step("chardev-add", {"id": name, "backend": backend}, given.written))

    def _chardev_step(self, name: str) -> Step | None:
        return next((step for step in self.start.steps if step.makes("chardev-add", name)), None)

    def _name_fd(self, text: str) -> str:
        if not text.isdecimal():
            raise CommandLineError(f"File descriptor named '{text}' has not been found")
        self.start.fds[text] = int(text)
        return text

    def _monitors(self) -> None:
        number = 0
        for given in self._of("mon", "qmp", "qmp-pretty", "monitor"):
            if given.option.key == "mon":
                with given.named():
                    self.start.monitors.append(self._monitor(given))
                continue
            if given.value == "none":
                continue
            name = given.value.removeprefix("chardev:")
            if name == given.value:
                name = f"compat_monitor{number}"
                number += 1
                self._short(given, name)
            control = given.option.key != "monitor"
            self.start.monitors.append(MonitorAt(name, control, given.option.key == "qmp-pretty", given.written))

    def _monitor(self, given: Given) -> MonitorAt:
        """-mon's."""
        found = values(given)
        if "chardev" not in found:
            raise CommandLineError("chardev is missing")
        name, mode = found["chardev"], found.get("mode", "readline")
        if mode not in ("readline", "control"):
            raise CommandLineError(f'unknown monitor mode "{mode}"')
        if self._chardev_step(name) is None:
            raise CommandLineError(f'chardev "{name}" not found')
        return MonitorAt(name, mode == "control", as_bool("pretty", found.get("pretty", "off")), given.written)

    def _short(self, given: Given, name: str) -> None:
        """The chardev of a short form."""
        with given.named():
            backend = chardevs.from_short(given.value, self._name_fd)
        if backend is None:
            raise given.error(f"'{given.value}' is not a valid char driver\n{given.written}: parse error: {given.value}")
        self.start.steps.append(Step("chardev-add", {"id": name, "backend": backend}, given.written))
