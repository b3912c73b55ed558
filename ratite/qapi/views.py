"""The facts of a view: what the schema's conditions ask about.

    personality   targets          facts
    ratite        none             RATITE
    ratite        one              RATITE TARGET_X
    ratite        several          RATITE TARGET_X TARGET_Y HETEROGENEOUS
    qemu          as above         QEMU TARGET_...

A *policy* says what becomes of things that are marked `deprecated` or `unstable`, for who tests whether a client does without:
REJECT_DEPRECATED and REJECT_UNSTABLE refuse such commands, members and values, HIDE_DEPRECATED takes deprecated commands,
events and members out of introspection.

An *unconditional* view has the fact UNCONDITIONAL and those of every target that the schema speaks of: each command is there,
and one that is for none of the targets shown answers that it isn't supported, as QEMU does from 10.1 on.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from ratite.qapi.resolved import ResolvedSchema

UNCONDITIONAL = "UNCONDITIONAL"
HIDE_DEPRECATED = "HIDE_DEPRECATED"
_MARKS = ("deprecated", "unstable")
_TARGET = "TARGET_"


def fact_of_target(target: str) -> str:
    """The fact that a view shows a target: "TARGET_" and its name as a schema can write it."""
    return _TARGET + target.upper().replace("-", "_").replace(".", "_")


def facts_of(personality: str, targets: Sequence[str] = ()) -> frozenset[str]:
    """The facts of a personality's view that shows these targets."""
    facts = {personality.upper(), *(fact_of_target(target) for target in targets)}
    if len(targets) > 1:
        facts.add("HETEROGENEOUS")
    return frozenset(facts)


def refused_mark(features: Iterable[str], facts: frozenset[str]) -> str:
    """The mark among these features that the policy refuses, as errors begin with it; "": none."""
    for mark in _MARKS:
        if mark in features and f"REJECT_{mark.upper()}" in facts:
            return mark.capitalize()
    return ""


def unconditional_facts(schema: ResolvedSchema) -> frozenset[str]:
    """What an unconditional view has besides."""
    found = {UNCONDITIONAL}
    for definition in schema.definitions:
        found.update(name for name in _names(definition) if name.startswith(_TARGET))
    return frozenset(found)


def _names(node: Any) -> Iterator[str]:
    """The facts that the conditions in a part of a schema ask about."""
    if isinstance(node, list):
        for each in node:
            yield from _names(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _operands(value) if key == "if" else _names(value)


def _operands(condition: Any) -> Iterator[str]:
    if isinstance(condition, str):
        yield condition
    elif isinstance(condition, list):
        for each in condition:
            yield from _operands(each)
    else:
        for each in condition.values():
            yield from _operands(each)
