"""A machine file into the QMP commands that make the machine: pure, all faults of the file at once.

    text ── document ──> checked against the schema ── expand ──> Flat ── checked again, values and names ──> commands

The commands are those of any client: `machine-create`, backends, objects, devices, maps, wires, `x-exit-preconfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ratite.qapi.errors import GenericError
from ratite.qapi.machinefile.declarations import SECTIONS, Declarations, Section
from ratite.qapi.machinefile.document import Document, read_document
from ratite.qapi.machinefile.expand import Expander, Read
from ratite.qapi.machinefile.expression import size_of
from ratite.qapi.machinefile.flat import Flat, links_of
from ratite.qapi.machinefile.links import Links
from ratite.qapi.machinefile.parameters import Parameter, check_declared, declared
from ratite.qapi.machinefile.problems import MachineFileError, Path, Place, Problem, Problems

Command = tuple[str, dict[str, Any]]
# Values of parameters, or what chooses them when it sees the file's data.
Arguments = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Compiled(NamedTuple):
    """A machine; `commands` are (name, arguments) in order, `consoles` the ids of its chardevs."""

    name: str
    description: str
    commands: list[Command]
    parameters: Mapping[str, Parameter]
    consoles: list[str]


class Summary(NamedTuple):
    """What a file says of itself."""

    description: str
    parameters: Mapping[str, Parameter]


def summary_of(name: str, text: str) -> Summary:
    """A file's description and parameters, without compiling it; MachineFileError when it can't be read."""
    problems = Problems()
    document = read_document(name, text, problems)
    problems.check()
    data = document.data if document is not None and isinstance(document.data, dict) else {}
    assert document is not None, "else there is a problem"
    return Summary(str(data.get("description", "")), declared(document, (), data))


def trusted_commands(
    document: Document, arguments: Mapping[str, Any], declarations: Declarations, read: Read
) -> list[Command]:
    """The machine of a document that was checked when it was made, with everything that it includes: a tenth of the time.

    Faults of the arguments are found; MachineFileError.
    """
    problems = Problems()
    flat = Expander(declarations, read, lambda document, problems: None, problems).expand(document, arguments)
    problems.check()
    return list(commands_of(flat, declarations))


class Compiler:
    """Declarations with the schemas made from them; compiles any number of files."""

    def __init__(self, declarations: Declarations) -> None:
        # Imported here: it takes longer than everything else that a trusted document needs.
        from ratite.qapi.machinefile.schema import flat_schema, machine_schema
        from ratite.qapi.machinefile.validate import Validator

        self._declarations = declarations
        self._written = Validator(machine_schema(declarations))
        self._flat = Validator(flat_schema(declarations))

    def compile_text(
        self, text: str, arguments: Arguments | None = None, read: Read | None = None, name: str = "<text>"
    ) -> Compiled:
        """The machine that a document describes; MachineFileError.  Without `read` it can't include other files."""
        problems = Problems()
        document = read_document(name, text, problems)
        if document is None:
            problems.check()
            raise AssertionError("a document that can't be read has a problem")
        if callable(arguments):
            self._validate(document, problems)
            problems.check()
            arguments = arguments(document.data)
        expander = Expander(self._declarations, read, self._validate, problems)
        flat = expander.expand(document, arguments or {})
        self._flat.check(flat.data, flat.place, problems)
        if not expander.incomplete:
            Links(flat, self._declarations, problems).check()
        self._sizes(flat, problems)
        problems.check()
        data = document.data
        return Compiled(
            document.name, str(data.get("description", "")), list(commands_of(flat, self._declarations)),
            declared(document, (), data), list(flat.data["chardevs"]),
        )  # fmt: skip

    def compile_named(self, name: str, arguments: Arguments | None, read: Read) -> Compiled:
        """The machine of a file or, where no such file is, of a profile; MachineFileError."""
        kind = "profile" if _is_profile(name) else "file"
        try:
            canonical, text = read(kind, name, "")
        except GenericError as error:
            more = "; the name of a file ends in .yaml, .yml or .json, or starts with . or /" if kind == "profile" else ""
            raise MachineFileError([Problem(name, 0, 0, "", f"{error.desc}{more}", "")]) from error
        except OSError as error:
            raise MachineFileError([Problem(name, 0, 0, "", f"can't be read: {error.strerror}", "")]) from error
        except UnicodeDecodeError as error:
            raise MachineFileError([Problem(name, 0, 0, "", "it isn't text in UTF-8", "")]) from error
        return self.compile_text(text, arguments, read, canonical)

    def _validate(self, document: Document, problems: Problems) -> None:
        def place(path: Path, key: bool) -> tuple[Place, Path]:
            return document.place(path, key), path

        self._written.check(document.data, place, problems)
        holders: list[tuple[Path, Any]] = [((), document.data)]
        if isinstance(document.data, dict) and isinstance(parts := document.data.get("parts"), dict):
            holders += ((("parts", name), part) for name, part in parts.items())
        for path, data in holders:
            if isinstance(data, dict):
                check_declared(document, path, data, problems)

    # -- commands

    def _sizes(self, flat: Flat, problems: Problems) -> None:
        """Sizes as numbers, where their bounds can be told."""
        for section in ("objects", "devices"):
            for name, entry in flat.data[section].items():
                kind = entry.get("type") if isinstance(entry, dict) else None
                if not isinstance(kind, str) or kind not in self._declarations.types:
                    continue
                for row in self._declarations.properties(kind):
                    value = entry.get(row["name"])
                    if row["type"] != "size" or not isinstance(value, str) or (size := size_of(value)) is None:
                        continue
                    low, high = row.get("minimum", 0), row.get("maximum", (1 << 64) - 1)
                    if not low <= size <= high:
                        place, written = flat.place((section, name, row["name"]))
                        problems.add(place, written, f"must be a size from {low} to {high}", value)
                    entry[row["name"]] = size


def commands_of(flat: Flat, declarations: Declarations) -> Iterator[Command]:
    """The commands that make a resolved machine."""
    yield "machine-create", dict(flat.data["machine"])
    for section in SECTIONS.values():
        for name in _order(flat, section, declarations):
            yield _command(flat, declarations, section, name, flat.data[section.name][name])
    for space, regions in flat.data["maps"].items():
        for region, places in regions.items():
            for place in places if isinstance(places, list) else [places]:
                more = place if isinstance(place, dict) else {"offset": place}
                yield "map-region", {"space": space, "region": region, **more}
    for output, end in flat.data["wires"].items():
        source, _, line = output.rpartition("/")
        target, _, input = end.rpartition("/")
        yield "wire-irq", {"from": source, "output": line, "to": target, "input": input}
    yield "x-exit-preconfig", {}


def _order(flat: Flat, section: Section, declarations: Declarations) -> list[str]:
    """As written; a block node after what it names, since blockdev-add needs it."""
    entries = flat.data[section.name]
    if not section.union:
        return list(entries)
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        stack = [name]
        while stack:
            entry = entries[stack[-1]]
            below = [entry.get(member) for member in links_of(section.name, entry, declarations)]
            todo = [text for text in below if isinstance(text, str) and text in entries and text not in done]
            if todo and todo[0] not in stack:
                stack.append(todo[0])
            else:
                done.setdefault(stack.pop())

    for name in entries:
        visit(name)
    return list(done)


def _command(
    flat: Flat, declarations: Declarations, section: Section, name: str, entry: Mapping[str, Any]
) -> Command:
    if not section.union:
        linked = links_of(section.name, entry, declarations)
        rest = {key: _path(value, flat) if key in linked else value for key, value in entry.items() if key != "type"}
        return section.command, {section.tag: entry["type"], section.id: name, **rest}
    made = declarations.to_qmp(section.union, dict(entry))
    if section.command == "chardev-add":
        return section.command, {"id": name, "backend": made}
    return section.command, {section.tag: made.pop(section.tag), section.id: name, **made}


def _path(link: Any, flat: Flat) -> Any:
    """A link to "ID/PART" as the path that it means."""
    owner, slash, _ = link.partition("/") if isinstance(link, str) else ("", "", "")
    if not owner or not slash:
        return link
    return f"{'/machine/peripheral' if owner in flat.data['devices'] else '/objects'}/{link}"


def _is_profile(name: str) -> bool:
    """Files have an ending; profiles are called MACHINE/PROFILE or MACHINE/PROFILE@VERSION."""
    return not name.endswith((".yaml", ".yml", ".json")) and not name.startswith((".", "/"))
