"""python -m ratite.clients.reference FOLDER: the reference pages, in Markdown, of what this installation has.

    schema ──> qmp-commands, qmp-events, qmp-types, control-plane     registry's manifests ──> types, cpus, machine-files
    the command's own table of verbs ──> cli                          `ratited --help` ──> ratited

Pages link each other by the headings' anchors, as GitHub and MyST make them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ratite.clients import schema_diff
from ratite.clients.schema_reasons import by_reason
from ratite.qapi.machinefile import files, json_schema
from ratite.qapi.machinefile.declarations import SECTIONS, Declarations
from ratite.qapi.resolved import ResolvedSchema, element_type
from ratite.qapi.tables import Tables
from ratite.qapi.views import facts_of

WIDE = 110

Lines = Iterator[str]
Definition = Mapping[str, Any]

CONTROL = Path(__file__).parents[1] / "schema" / "resolved-control.json"
OWN = "RATITE"
BUILTIN = frozenset((
    "str", "bool", "int", "number", "size", "any", "null", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "QType",
))  # fmt: skip
KINDS = MappingProxyType({
    "config": "given when it is made", "tunable": "may be changed at any time", "state": "the guest's, saved with the machine",
    "debug": "to look at",
})  # fmt: skip


class Schema:
    """A schema as pages; `types` is the page that its types are on."""

    def __init__(self, schema: ResolvedSchema, types: str) -> None:
        self.schema = schema
        self.types = types

    def of(self, *metas: str) -> list[Definition]:
        """The definitions of these kinds that somebody has written, by name."""
        found = (each for each in self.schema.definitions if each["meta"] in metas and not each.get("implicit"))
        return sorted(found, key=lambda each: str(each["name"]))

    def type_text(self, name: str) -> str:
        """A type's name, as a link where it has an entry."""
        element = element_type(name)
        if element is not None:
            return f"array of {self.type_text(element)}"
        if name in BUILTIN or self.schema.get(name).get("implicit"):
            return f"`{name}`"
        return f"[{name}]({self.types}#{anchor(name)})"

    def members(self, definition: Definition) -> Lines:
        """Those of a struct or union, of a command's or event's arguments."""
        notes = definition.get("doc", {}).get("members", {})
        rows = list(definition.get("members", ()))
        if base := definition.get("base"):
            if self.schema.get(base).get("implicit"):
                rows = [*self.schema.members(base), *rows]
            else:
                yield f"- the members of {self.type_text(base)}"
        for row in rows:
            optional = ", optional" if row.get("optional") else ""
            note = prose(notes.get(row["name"], ""))
            yield f"- `{row['name']}` ({self.type_text(row['type'])}{optional}): {note}{_where(row)}".rstrip(": ")
        tag = definition.get("discriminator")
        for row in definition.get("branches", ()):
            when = f"with `{tag}` = `{row['name']}`" if tag else f"`{row['name']}`"
            if tag and not self.schema.get(row["type"]).get("members") and self.schema.get(row["type"]).get("implicit"):
                continue
            note = "" if tag else " " + prose(notes.get(row["name"], ""))
            yield f"- {when}: {self.type_text(row['type'])}{note}{_where(row)}".rstrip()

    def arguments(self, definition: Definition) -> Lines:
        """What a command takes, or an event brings."""
        if (name := definition.get("arg-type")) is None:
            return
        inner = self.schema.get(name)
        if not inner.get("implicit"):
            yield f"- the members of {self.type_text(name)}"
            return
        yield from self.members({**inner, "doc": definition.get("doc", {})})

    def entry(self, definition: Definition) -> Lines:
        """A command, event or type, whole."""
        doc = definition.get("doc", {})
        yield f"## {definition['name']}"
        yield ""
        yield prose(doc.get("text", "")) + _where(definition)
        yield ""
        meta = definition["meta"]
        if meta == "enum":
            notes = doc.get("members", {})
            rows = [(row, prose(notes.get(row["name"], ""))) for row in definition["members"]]
            lines = [f"- `{row['name']}`: {note}{_where(row)}".rstrip(": ") for row, note in rows]
        else:
            lines = list(self.arguments(definition) if meta in ("command", "event") else self.members(definition))
        yield from lines
        yield ""
        if "ret-type" in definition:
            yield f"Returns {self.type_text(definition['ret-type'])}: {prose(doc.get('returns', ''))}".rstrip(": ")
            yield ""
        if doc.get("errors"):
            yield f"Errors: {prose(doc['errors'])}"
            yield ""
        extra = [text for key, text in (("allow-oob", "may be executed out of band"), ("allow-preconfig", "needs no machine"))
                 if definition.get(key)]  # fmt: skip
        if meta == "command" and extra:
            yield f"It {' and '.join(extra)}."
            yield ""


def prose(text: str) -> str:
    """A documentation comment's text as a paragraph of Markdown."""
    return re.sub(r"([\\<*|\[])", r"\\\1", " ".join(text.split()))


def anchor(heading: str) -> str:
    """A heading's anchor."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _where(row: Mapping[str, Any]) -> str:
    """In which views it is, unless in all."""
    condition = row.get("if")
    if condition is None:
        return ""
    if condition == OWN:
        return " *(ratite's own views)*"
    if condition == "HETEROGENEOUS":
        return " *(views of several targets)*"
    names = condition["any"] if isinstance(condition, dict) and "any" in condition else [condition]
    return f" *(views of {', '.join(str(name).removeprefix('TARGET_').lower() for name in names)})*"


def _head(title: str, text: str) -> Lines:
    yield f"# {title}"
    yield ""
    yield text
    yield ""


def commands(schema: Schema, declarations: Declarations) -> Lines:
    """QMP's, with the views that have them."""
    yield from _head("QMP commands", "Every command of the schema. Members without *optional* must be given. What a view is: "
                     "[QMP as ratite speaks it](../qmp.md).")  # fmt: skip
    targets = sorted(declarations.targets)
    facts = {
        "no target": facts_of("ratite"),
        **{target: facts_of("ratite", (target,)) for target in targets},
        "several": facts_of("ratite", targets),
        "QEMU's manners": facts_of("qemu"),
        **{f"QEMU's, {target}": facts_of("qemu", (target,)) for target in targets},
    }
    views = {name: Tables(schema.schema, each).commands for name, each in facts.items()}
    shown = {
        each["name"]: tuple("✓" if each["name"] in found else "" for found in views.values()) for each in schema.of("command")
    }
    rows = [(f"[{name}](#{anchor(name)})", *marks) for name, marks in shown.items() if not all(marks)]
    yield "## Commands by view"
    yield ""
    yield f"{len(shown) - len(rows)} of the {len(shown)} commands are in every view; these are not:"
    yield ""
    yield from table(("command", *views), rows)
    for each in schema.of("command"):
        yield from schema.entry(each)


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Lines:
    """A table, and an empty line."""
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def definitions(title: str, text: str, schema: Schema, *metas: str) -> Lines:
    """All entries of these kinds."""
    yield from _head(title, text)
    for each in schema.of(*metas):
        yield from schema.entry(each)


def types(title: str, text: str, declarations: Declarations, wanted: Callable[[Mapping[str, Any]], bool]) -> Lines:
    """Types of the registry with all that a client can give, wire, map or look at."""
    kinds = ", ".join(f"*{kind}* {what}" for kind, what in KINDS.items())
    yield from _head(title, f"{text} A property's kind says what it is for: {kinds}.")
    for name, row in sorted(declarations.types.items()):
        if row["abstract"] or not wanted(row):
            continue
        yield f"## {name}"
        yield ""
        yield prose(row["text"])
        yield ""
        yield from _facts(row)
        properties = [_property(each) for each in row["properties"]]
        if properties:
            yield from table(("property", "type", "kind", "default", ""), properties)


def _facts(row: Mapping[str, Any]) -> Lines:
    facts = [
        ("targets", ", ".join(f"`{name}`" for name in row["targets"])), ("bus", f"`{row['bus']}`" if row["bus"] else ""),
        ("irq inputs", _lines(row["inputs"])), ("irq outputs", _lines(row["outputs"])),
        ("regions", ", ".join(f"`{name or 'the only one'}`" for name in row["regions"])),
    ]  # fmt: skip
    known = [f"- {label}: {text}" for label, text in facts if text]
    yield from known
    if known:
        yield ""


def _lines(rows: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" if count == 1 else f"`{name}[…]`" for name, count in rows.items())


def _property(row: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [prose(row["text"])]
    if "values" in row:
        notes.append("one of " + ", ".join(f"`{value}`" for value in row["values"]))
    if "minimum" in row or "maximum" in row:
        notes.append(f"{row.get('minimum', '…')} to {row.get('maximum', '…')}")
    if row.get("unit"):
        notes.append(f"in {row['unit']}")
    if row.get("link"):
        notes.append(f"names a {row['link']}")
    default = f"`{json.dumps(row['default'], ensure_ascii=False)}`" if row.get("default") is not None else ""
    return f"`{row['name']}`", f"`{row['type']}`", str(row["kind"]), default.replace("|", "\\|"), "; ".join(notes)


def qemu_schema() -> Lines:
    """What QEMU 10.0's introspection has and ours hasn't, with the reasons."""
    facts = schema_diff.facts()
    found = {target: schema_diff.compare(schema_diff.shipped(target), theirs) for target, theirs in facts.items()}
    yield from _head("The schema beside QEMU 10.0's", "What `ratite schema-diff` finds between `query-qmp-schema` of a view "
                     "with QEMU's manners and that of QEMU 10.0's program for the same target.")  # fmt: skip
    yield from table(("target", *schema_diff.KINDS), [
        (target, *(str(sum(row.kind == kind for row in rows)) for kind in schema_diff.KINDS)) for target, rows in found.items()
    ])  # fmt: skip
    targets: dict[schema_diff.Finding, list[str]] = {}
    for target, rows in found.items():
        for row in rows:
            targets.setdefault(row, []).append(target)
    for why, group in by_reason(targets).items():
        yield f"## {prose(why)[:1].upper()}{prose(why)[1:]}"
        yield ""
        whole = [row for row in group if not row.what and len(targets[row]) == len(facts)]
        if whole:
            yield f"- {', '.join(f'`{row.name}`' for row in whole)}"
        for row in (row for row in group if row not in whole):
            only = "" if len(targets[row]) == len(facts) else f" *({', '.join(targets[row])})*"
            what = f": {', '.join(f'`{name}`' for name in row.what)}" if row.what else ""
            yield f"- {row.kind}: `{row.name}`{f' `{row.where}`' if row.where else ''}{what}{only}"
        yield ""


def machine_files(declarations: Declarations) -> Lines:
    """The sections, from the JSON Schema of machine files."""
    schema = json_schema(declarations)
    yield from _head("Machine files: sections", "What may stand at the top of a machine file, from the JSON Schema that "
                     "`ratite schema` prints. How they are used: [Machine files](../machine-files.md).")  # fmt: skip
    rows = [(f"`{name}`", prose(row.get("description", ""))) for name, row in schema["properties"].items()]
    yield from table(("section", "holds"), rows)
    yield "## Sections of things"
    yield ""
    made = [(f"`{each.name}`", f"[{each.command}](qmp-commands.md#{anchor(each.command)})") for each in SECTIONS.values()]
    yield from table(("section", "command"), made)
    yield "## Profiles"
    yield ""
    for profile in files.profiles():
        if not profile.newest:
            continue
        from ratite.qapi.machinefile import summary_of

        found = summary_of(profile.full_name, profile.path.read_text(encoding="utf-8"))
        yield f"### {profile.full_name}"
        yield ""
        yield prose(found.description)
        yield ""
        yield from table(("parameter", "type", "default", ""), [
            (f"`{row.name}`", f"`{row.type}`", f"`{json.dumps(row.default)}`", prose(row.text))
            for row in found.parameters.values()
        ])  # fmt: skip


def cli() -> Lines:
    """Every verb with its options."""
    import click

    from ratite.clients.cli import main

    yield from _head("The command ratite: all verbs", "What `--help` says of each. Exit statuses and examples: "
                     "[The command](../cli.md).")  # fmt: skip
    context = click.Context(main.command, info_name="ratite", max_content_width=WIDE, terminal_width=WIDE)
    for verb in main.command.list_commands(context):
        found = main.command.get_command(context, verb)
        assert found is not None, "it is in the list"
        if found.context_settings.get("ignore_unknown_options"):  # it has a parser of its own
            continue
        inner = click.Context(found, info_name=verb, parent=context, max_content_width=WIDE, terminal_width=WIDE)
        yield from _verb(found, inner)


def _verb(found: Any, context: Any) -> Lines:
    yield f"## {context.command_path}"
    yield ""
    yield "```text"
    yield found.get_help(context)
    yield "```"
    yield ""
    for name, below in getattr(found, "commands", {}).items():
        inner = type(context)(below, info_name=name, parent=context, max_content_width=WIDE, terminal_width=WIDE)
        yield from _verb(below, inner)


def daemon() -> Lines:
    """`ratited --help`."""
    done = subprocess.run([sys.executable, "-m", "ratite.daemon", "--help"], stdout=subprocess.PIPE, text=True, check=True)
    yield from _head("The daemon ratited", "What `ratited --help` prints.")
    yield "```text"
    yield done.stdout.rstrip()
    yield "```"


def pages() -> Iterator[tuple[str, Lines]]:
    """Each page's file name, and its lines."""
    declarations = files.declarations()
    qmp = Schema(declarations.schema, "qmp-types.md")
    control = Schema(ResolvedSchema.from_json(json.loads(CONTROL.read_bytes())), "")
    yield "qmp-commands.md", commands(qmp, declarations)
    yield "qmp-events.md", definitions("QMP events", "Every event of the schema, with its data.", qmp, "event")
    yield "qmp-types.md", definitions(
        "QMP types", "The types that commands and events speak of.", qmp, "enum", "struct", "union", "alternate"
    )
    yield "devices.md", types("Device types", "What `device_add` makes, CPUs aside, and what is part of such devices.",
                              declarations, lambda row: row["kind"] == "device")  # fmt: skip
    yield "cpus.md", types("CPU models", "What `device_add` makes of CPUs.", declarations, lambda row: row["kind"] == "cpu")
    yield "objects.md", types("Objects and backends", "What `object-add`, `chardev-add`, `blockdev-add` and `netdev_add` make.",
                              declarations, lambda row: row["kind"] not in ("device", "cpu"))  # fmt: skip
    yield "machine-files.md", machine_files(declarations)
    yield "control-plane.md", definitions(
        "Control-plane methods and types", "JSON-RPC methods; params are given by name.", control, "command", "event", "enum",
        "struct", "union", "alternate",
    )  # fmt: skip
    yield "qemu-schema.md", qemu_schema()
    yield "cli.md", cli()
    yield "ratited.md", daemon()


def main(argv: list[str] | None = None) -> int:
    """Write the pages; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: python -m ratite.clients.reference FOLDER", file=sys.stderr)
        return 2
    folder = Path(words[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in pages():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
