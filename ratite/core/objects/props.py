"""Static typed properties, declared in the body of a class.

    class Ns16550(MmioDevice):
        regshift = config("uint8", 0, "log2 of the register spacing", maximum=3)
        chardev = link("chardev", "the serial line's backend", optional=True)
        lcr = state("uint8", 0, "line control register")
        loopback = tunable("bool", False, "...")
        overruns = debug("uint64", 0, "...")

Four kinds, and who may change them:

    config    a client, until the object is wired
    tunable   a client, always
    state     the object itself while the machine runs; saved and compared generically
    debug     the object itself; counters and views, never saved

`Obj.__init_subclass__` takes the declarations out of the class body, so an instance's attributes are
plain attributes.  The property's name is the attribute's with '-' for '_'.

Types are QAPI's: bool, str, number, size, int8..int64, uint8..uint64, and for state and debug also
`bytes` (shown as hex), `any` (an object) and `list:T`.  A type outside these is an error of the device's author (TypeError).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ratite.qapi.errors import GenericError

KINDS = ("config", "tunable", "state", "debug")

INT_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **{f"int{n}": (-(1 << (n - 1)), (1 << (n - 1)) - 1) for n in (8, 16, 32, 64)},
        **{f"uint{n}": (0, (1 << n) - 1) for n in (8, 16, 32, 64)},
        "int": (-(1 << 63), (1 << 63) - 1),
        "size": (0, (1 << 64) - 1),
    }
)

_ZERO: Mapping[str, Any] = MappingProxyType(
    {"bool": False, "str": "", "number": 0.0, "bytes": b"", "any": None, **dict.fromkeys(INT_RANGES, 0)}
)


class Prop:
    """One declared property; immutable once its class is made.

    `type` is the QAPI type name; `values` restricts a str to an enumeration; `minimum`/`maximum` (both
    included) restrict an integer; `unit` is for people ("Hz", "bytes"); `link` is the type that the
    target of a link must be; `required` says that wiring fails without a value; `getter`/`setter` name
    methods of the object when the value is computed.
    """

    __slots__ = (
        "attr",
        "default",
        "getter",
        "kind",
        "link",
        "maximum",
        "minimum",
        "name",
        "required",
        "setter",
        "since",
        "text",
        "type",
        "unit",
        "values",
    )

    def __init__(
        self,
        kind: str,
        type: str,
        default: Any = None,
        text: str = "",
        *,
        name: str = "",
        unit: str = "",
        minimum: int | None = None,
        maximum: int | None = None,
        values: tuple[str, ...] = (),
        since: str = "0.1",
        link: str = "",
        required: bool = False,
        getter: str = "",
        setter: str = "",
    ) -> None:
        base = type.removeprefix("list:")
        if base not in _ZERO or kind not in KINDS:
            raise TypeError(f"property of kind {kind!r} and type {type!r}: no such kind or type")
        self.kind = kind
        self.type = type
        self.name = name
        self.attr = ""
        if default is None and not required and not link:
            default = [] if type.startswith("list:") else _ZERO[base]
        self.default = default
        self.text = text
        self.unit = unit
        self.minimum = minimum
        self.maximum = maximum
        self.values = tuple(values)
        self.since = since
        self.link = link
        self.required = required
        self.getter = getter
        self.setter = setter

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}: {self.type_name}>"

    def __set_name__(self, owner: type, attr: str) -> None:
        self.attr = attr
        self.name = self.name or attr.strip("_").replace("_", "-").lower()

    @property
    def type_name(self) -> str:
        """The type as qom-list shows it: "uint8", "link<chardev>"."""
        return f"link<{self.link}>" if self.link else self.type

    @property
    def optional(self) -> bool:
        """Whether the object can be wired without a value from the client."""
        return not self.required

    def fresh(self) -> Any:
        """The value of a new instance: mutable defaults are copied."""
        if isinstance(self.default, list | bytearray):
            return self.default.copy()
        return self.default

    def check(self, value: Any, owner: str) -> Any:
        """`value` as the attribute should hold it; GenericError when type or range is wrong.

        `owner` is the type's name, for messages.
        """
        if self.type.startswith("list:"):
            if not isinstance(value, list):
                raise _wrong_type(self.name, "array")
            base = self.type[5:]
            return [self._check_one(f"{self.name}[{i}]", base, v, owner) for i, v in enumerate(value)]
        return self._check_one(self.name, self.type, value, owner)

    def _check_one(self, name: str, type: str, value: Any, owner: str) -> Any:
        if type in INT_RANGES:
            return self._check_int(name, type, value, owner)
        value = _SCALARS[type](name, value)
        if self.values and value not in self.values:
            raise GenericError(f"Parameter '{name}' does not accept value '{value}'")
        return value

    def _check_int(self, name: str, type: str, value: Any, owner: str) -> int:
        low, high = INT_RANGES[type]
        # Wide ones are refused alike whatever is wrong with them, as on the wire (ratite.qapi.visitor).
        if not isinstance(value, int) or isinstance(value, bool) or (high >> 32 and not low <= value <= high):
            raise _wrong_type(name, "integer") if low else GenericError(f"Parameter '{name}' expects uint64")
        if not low <= value <= high:
            raise GenericError(f"Parameter '{name}' expects {type}_t")
        if self.minimum is not None and value < self.minimum:
            raise GenericError(f"Property '{owner}.{name}' must be at least {self.minimum}, not {value}")
        if self.maximum is not None and value > self.maximum:
            raise GenericError(f"Property '{owner}.{name}' must be at most {self.maximum}, not {value}")
        return value

    def describe(self) -> dict[str, Any]:
        """The declaration as plain data, as the manifest holds it; members at their default are left out."""
        row: dict[str, Any] = {"name": self.name, "type": self.type, "kind": self.kind, "text": self.text}
        default = self.default.hex() if isinstance(self.default, bytes | bytearray) else self.default
        if default is not None and not self.getter:
            row["default"] = default
        for key in ("unit", "minimum", "maximum", "link", "required"):
            value = getattr(self, key)
            if value not in ("", None, False):
                row[key] = value
        if self.values:
            row["values"] = list(self.values)
        row["since"] = self.since
        return row


def _wrong_type(name: str, expected: str) -> GenericError:
    return GenericError(f"Invalid parameter type for '{name}', expected: {expected}")


def _check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(name, "boolean")
    return value


def _check_str(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(name, "string")
    return value


def _check_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(name, "number")
    return value


def _check_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    try:
        return bytes.fromhex(_check_str(name, value))
    except ValueError:
        raise GenericError(f"Parameter '{name}' expects bytes in hex") from None


_SCALARS: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {"bool": _check_bool, "str": _check_str, "number": _check_number, "bytes": _check_bytes}
)


def config(type: str, default: Any = None, text: str = "", **rules: Any) -> Any:
    """A property that a client sets before the object is wired.  `rules` as in Prop."""
    return Prop("config", type, default, text, **rules)


def link(target: str, text: str = "", *, optional: bool = False, **rules: Any) -> Any:
    """A config property that holds the path or id of an object of type `target`.

    The attribute is None until the object is wired, then the object itself.
    """
    return Prop("config", "str", None, text, link=target, required=not optional, **rules)


def tunable(type: str, default: Any = None, text: str = "", **rules: Any) -> Any:
    """A property that a client may set at any time."""
    return Prop("tunable", type, default, text, **rules)


def state(type: str, default: Any = None, text: str = "", **rules: Any) -> Any:
    """Run-time state: saved, restored and compared generically."""
    return Prop("state", type, default, text, **rules)


def debug(type: str, default: Any = None, text: str = "", **rules: Any) -> Any:
    """A counter or a view for people; not part of the machine's state."""
    return Prop("debug", type, default, text, **rules)
