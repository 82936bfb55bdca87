"""Total readers for decoded objects that may be hostile or half missing: any shape in, the wanted shape out.

Every function returns an empty value where the input has another shape, so that compilation never raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_EMPTY: Mapping[str, Any] = {}
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def table(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def dig(value: object, *keys: str) -> Any:
    """The value below nested keys, None where a level is missing or no mapping."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def rows(value: object) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list; everything else in it is passed over."""
    if isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, Mapping):
                yield item


def text(value: object) -> str:
    """A scalar as text; empty for null, lists and mappings."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return ""


def strings(value: object) -> tuple[str, ...]:
    """The scalars of a list as text."""
    if isinstance(value, (list, tuple)):
        return tuple(t for v in value if (t := text(v)))
    return ()


def labels(value: object) -> dict[str, str]:
    """A map of text to text."""
    return {str(k): text(v) for k, v in table(value).items()}


def integer(value: object) -> int | None:
    """A whole number, also from its decimal text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and len(value) <= 18 and re.fullmatch(r"-?\d+", value):
        return int(value)
    return None


def port_number(value: object) -> int | None:
    """A TCP port, None where the value is no number from 1 to 65535."""
    number = integer(value)
    return number if number is not None and 0 < number < 65536 else None


def duration(value: object) -> float | None:
    """A protobuf or Go duration (``1s``, ``500ms``, ``1m30s``) in seconds."""
    if not isinstance(value, str) or not value or len(value) > 64:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s)", value)
    if not parts or "".join(a + b for a, b in parts) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def timestamp(value: object) -> str:
    """A creation time as sortable text; empty (the oldest) where there is none."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return text(value)


def network(value: str) -> Network | None:
    """An address or CIDR block, None where it is neither."""
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def networks(value: str) -> tuple[Network, ...]:
    """A comma separated list of blocks; ``*`` is every address."""
    if value.strip() == "*":
        return (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    return tuple(n for part in value.split(",") if (n := network(part.strip())) is not None)


def address(value: str) -> str:
    """An IP address in its canonical text, the text itself where it is none."""
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        return value


def within(ip: str, blocks: tuple[Network, ...]) -> bool:
    """Is the address inside one of the blocks?"""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(parsed.version == b.version and parsed in b for b in blocks)


class Meta(msgspec.Struct, frozen=True):
    """What names and orders an object. Objects of one kind sort as istiod sorts them: oldest first, then by name."""

    kind: str
    namespace: str
    name: str
    created: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def order(self) -> tuple[str, str, str]:
        return (self.created, self.name, self.namespace)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def meta_of(doc: Mapping[str, Any]) -> Meta:
    """Kind, namespace (``default`` where a document does not say), name and creation time."""
    m = table(doc.get("metadata"))
    return Meta(
        text(doc.get("kind")),
        text(m.get("namespace")) or "default",
        text(m.get("name")),
        timestamp(m.get("creationTimestamp")),
    )


def selector_matches(wanted: Mapping[str, str], have: Mapping[str, str]) -> bool:
    """Kubernetes equality selection: every wanted label is there with that value."""
    return all(have.get(k) == v for k, v in wanted.items())
