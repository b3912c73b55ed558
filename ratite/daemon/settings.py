"""A device as people write it, "TYPE,PROP=VALUE,…", with values as the type's properties declare them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratite.core.objects.registry import TypeRegistry


def read_settings(text: str, registry: TypeRegistry) -> tuple[str, dict[str, Any]]:
    """(type, properties); what can't be read as declared stays text, for the property's own check to refuse."""
    driver, *settings = text.split(",")
    row = registry.find(driver)
    declared = {} if row is None else {prop["name"]: prop["type"] for prop in row.properties}
    properties: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        properties[name] = _typed(declared.get(name, "str"), value)
    return driver, properties


def _typed(kind: str, text: str) -> object:
    if kind == "bool" and text in ("on", "off", "true", "false", "yes", "no", ""):
        return text in ("on", "true", "yes", "")
    if "int" in kind or kind == "size":
        try:
            return int(text, 0)
        except ValueError:
            return text
    return text
