"""The facts of a view: what the schema's conditions ask about.

    personality   targets          facts
    ratite        none             RATITE
    ratite        one              RATITE TARGET_X
    ratite        several          RATITE TARGET_X TARGET_Y HETEROGENEOUS
    qemu          as above         QEMU TARGET_...
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def fact_of_target(target: str) -> str:
    """The fact that a view shows a target: "TARGET_" and its name as a schema can write it."""
    return "TARGET_" + target.upper().replace("-", "_").replace(".", "_")


def facts_of(personality: str, targets: Sequence[str] = ()) -> frozenset[str]:
    """The facts of a personality's view that shows these targets."""
    facts = {personality.upper(), *(fact_of_target(target) for target in targets)}
    if len(targets) > 1:
        facts.add("HETEROGENEOUS")
    return frozenset(facts)
