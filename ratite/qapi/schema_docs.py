"""Whether documentation comments and definitions agree."""

from __future__ import annotations

from collections.abc import Iterable

from ratite.qapi.docs import Doc
from ratite.qapi.expressions import Definition
from ratite.qapi.source import Pragma


def check_docs(definitions: Iterable[Definition], pragma: Pragma) -> None:
    """Raises SchemaError where a comment says what isn't there, or lacks what it must say."""
    for definition in definitions:
        if definition.doc is None:
            if pragma.doc_required:
                raise definition.place.error("documentation comment required")
            continue
        _check_tags(definition, definition.doc)
        _check_members(definition, definition.doc, pragma)
        _check_features(definition, definition.doc)


def _check_tags(definition: Definition, doc: Doc) -> None:
    for section in doc.sections:
        if section.kind in ("Returns", "Errors") and definition.meta != "command":
            raise _at(definition, section.place.line, f"section '{section.kind}:' is only for commands")
        if section.kind == "Returns" and definition.returns is None:
            raise _at(definition, section.place.line, "section 'Returns:', but the command returns nothing")


def _check_members(definition: Definition, doc: Doc, pragma: Pragma) -> None:
    members = (definition.base_members or []) if definition.meta == "union" else (definition.members or [])
    known = [member.name for member in members]
    documented = doc.named("Member")
    for name, section in documented.items():
        if name not in known:
            raise _at(definition, section.place.line, f"documented member '{name}' does not exist")
    if not pragma.doc_required or definition.name in pragma.documentation_exceptions:
        return
    for name in known:
        if name not in documented:
            raise definition.place.error(f"member '{name}' is not documented")


def _check_features(definition: Definition, doc: Doc) -> None:
    known = {feature.name: "" for feature in definition.features}
    for member in [*(definition.members or []), *(definition.base_members or [])]:
        for feature in member.features:
            known.setdefault(feature.name, f" of member '{member.name}'")
    documented = doc.named("Feature")
    for name, section in documented.items():
        if name not in known:
            raise _at(definition, section.place.line, f"documented feature '{name}' does not exist")
    for name, whose in known.items():
        if name not in documented:
            raise definition.place.error(f"feature '{name}'{whose} is not documented")


def _at(definition: Definition, line: int, msg: str) -> Exception:
    return definition.place.at(line).error(msg)
