"""Protobuf messages as JSON: the same field is ``filter_chains`` from Envoy's admin port and ``filterChains`` from istioctl.

Readers ask by the proto's own name; both spellings answer. Total: any shape in, the wanted shape out.
Reference: the ProtoJSON format (protobuf.dev/programming-guides/json), which accepts either name.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """``filter_chains`` as ``filterChains``."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def get(value: object, *path: str) -> Any:
    """The value below nested proto fields, None where a level is missing or no message."""
    for name in path:
        if not isinstance(value, dict):
            return None
        found = value.get(name)
        value = value.get(camel(name)) if found is None else found
    return value


def message(value: object, *path: str) -> dict[str, Any]:
    """The message at a path; empty where there is none."""
    found = get(value, *path)
    return found if isinstance(found, dict) else {}


def messages(value: object, *path: str) -> Iterator[dict[str, Any]]:
    """The messages of a repeated field."""
    found = get(value, *path)
    if isinstance(found, list):
        for item in found:
            if isinstance(item, dict):
                yield item


def string(value: object, *path: str) -> str:
    """A string field; empty where it is not set."""
    found = get(value, *path)
    return found if isinstance(found, str) else ""


def strings(value: object, *path: str) -> tuple[str, ...]:
    """A repeated string field."""
    found = get(value, *path)
    return tuple(v for v in found if isinstance(v, str)) if isinstance(found, list) else ()


def number(value: object, *path: str) -> int | None:
    """An integer field: a number, its decimal text, or a message that wraps it."""
    found = get(value, *path)
    if isinstance(found, dict):
        found = found.get("value")
    if isinstance(found, bool):
        return None
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str) and len(found) <= 18 and found.lstrip("-").isdecimal():
        return int(found)
    return found if isinstance(found, int) else None


def flag(value: object, *path: str, default: bool = False) -> bool:
    """A boolean field."""
    found = get(value, *path)
    return found if isinstance(found, bool) else default


def seconds(value: object, *path: str) -> float | None:
    """A Duration (``10s``, ``0.250s``) in seconds."""
    found = get(value, *path)
    if isinstance(found, str) and len(found) <= 32 and found.endswith("s"):
        try:
            return max(0.0, float(found[:-1]))
        except ValueError:
            return None
    return None


def socket_address(value: object, *path: str) -> tuple[str, int] | None:
    """``(address, port)`` of an ``Address`` message, None for pipes and internal listeners."""
    socket = message(value, *path, "socket_address")
    port = number(socket, "port_value")
    address = string(socket, "address")
    return (address, port) if address and port is not None and 0 <= port < 65536 else None


def type_of(value: object) -> str:
    """The last word of a message's ``@type``: ``HttpConnectionManager``."""
    found = value.get("@type") if isinstance(value, dict) else None
    return found.rpartition(".")[2] if isinstance(found, str) else ""
