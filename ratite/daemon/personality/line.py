"""`Line`: one command line on its way to a `Start`; what the translators share."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ratite.daemon.personality.commandline import Given
from ratite.daemon.personality.start import Start, Step
from ratite.daemon.personality.syntax import CommandLineError, is_json, json_value, nested, number_of

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry
    from ratite.qapi.machinefile.types import MachineType
    from ratite.qapi.resolved import ResolvedSchema


class Line:
    """See the module's head.  The registry and the schema are read when something asks for them; the daemon takes them over."""

    def __init__(self, start: Start, given: Sequence[Given]) -> None:
        self.start = start
        self.given = list(given)
        self.machine: MachineType | None = None

    @property
    def target(self) -> str:
        """The target that is stood in for."""
        return self.start.target

    def of(self, *keys: str) -> list[Given]:
        """The options of these keys, in their order."""
        return [given for given in self.given if given.option.key in keys]

    def last(self, key: str) -> Given | None:
        """The option that counts where a later one replaces the earlier."""
        found = self.of(key)
        return found[-1] if found else None

    def has(self, key: str) -> bool:
        """Whether it is given."""
        return bool(self.of(key))

    @cached_property
    def registry(self) -> TypeRegistry:
        """The types."""
        from ratite.core.objects.registry import TypeRegistry

        self.start.registry = TypeRegistry()
        return self.start.registry

    @cached_property
    def schema(self) -> ResolvedSchema:
        """The commands."""
        from ratite.daemon.views import load_schema

        self.start.schema = load_schema()
        return self.start.schema

    def object_of(self, given: Given, lists: Container[str] = ()) -> tuple[dict[str, Any], bool]:
        """(the object that an option's value is, whether it was JSON); `lists` as `nested` has it.  CommandLineError."""
        if not is_json(given.value):
            return nested(given.value, given.option.implied, lists), False
        value = json_value(given.value)
        if not isinstance(value, dict):
            raise CommandLineError("must be a JSON object")
        return value, True

    def chardev(self, name: str) -> Step | None:
        """The command that makes a chardev."""
        return next((step for step in self.start.steps if step.makes("chardev-add", name)), None)

    def name_fd(self, text: str) -> str:
        """The name by which the commands find an inherited descriptor."""
        number = number_of(text)
        if number is None or not 0 <= number < 1 << 31:
            raise CommandLineError(f"File descriptor named '{text}' has not been found")
        self.start.fds[text] = number
        return text


def in_order(steps: Sequence[Step]) -> list[Step]:
    """The commands so that each comes after those that it names, by id or "ID.MORE"; else as they are."""
    by_id = {_id_of(step): step for step in steps if _id_of(step)}
    done: dict[int, Step] = {}
    begun: set[int] = set()

    # What one names may name others in turn, as often as the command line is long.
    waiting = list(reversed(steps))
    while waiting:
        step = waiting[-1]
        if id(step) in begun:
            done.setdefault(id(step), waiting.pop())
            continue
        begun.add(id(step))
        for text in reversed(_texts(step.arguments)):
            below = by_id.get(text) or by_id.get(text.partition(".")[0]) or by_id.get(text.partition("/")[0])
            if below is not None and id(below) not in begun:
                waiting.append(below)
    return list(done.values())


def _id_of(step: Step) -> str:
    found = step.arguments.get("node-name" if step.command == "blockdev-add" else "id", "")
    return found if isinstance(found, str) else ""


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, each in value.items() if key not in ("id", "node-name", "driver") for text in _texts(each)]
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else []
