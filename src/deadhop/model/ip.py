"""Addresses and prefixes as the readers write them (text) and as the hot loops want them (packed integers)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

#: Width of an address in bits, by IP version.
WIDTH = {4: 32, 6: 128}
#: ``dst`` of the route that covers everything, as iproute2 writes it.
DEFAULT = "default"


@lru_cache(maxsize=65536)
def parse(text: str) -> tuple[int, int]:
    """``(version, packed)`` of an address in presentation form. Raises :class:`ValueError`."""
    address = ip_address(text)
    return address.version, int(address)


@lru_cache(maxsize=65536)
def show(version: int, packed: int) -> str:
    """The canonical text of a packed address."""
    return str(IPv4Address(packed)) if version == 4 else str(IPv6Address(packed))


def mask(version: int, length: int) -> int:
    """The packed netmask of a prefix length."""
    width = WIDTH[version]
    return ((1 << length) - 1) << (width - length) if length else 0


@lru_cache(maxsize=65536)
def prefix(text: str, version: int) -> tuple[int, int]:
    """``(packed network, length)`` of ``default``, ``all``, ``ADDRESS`` or ``ADDRESS/LENGTH``.

    Host bits are cleared as the kernel does for rules. Raises :class:`ValueError`.
    """
    if text in (DEFAULT, "all", "any"):
        return 0, 0
    head, slash, tail = text.partition("/")
    if version == 4 and head.count(".") < 3:
        head += ".0" * (3 - head.count("."))  # iproute2's short form: 10/8
    found, packed = parse(head)
    if found != version:
        raise ValueError(f"{text!r} is not an IPv{version} prefix")
    width = WIDTH[version]
    length = int(tail) if slash else width
    if not 0 <= length <= width:
        raise ValueError(f"{text!r}: no such prefix length")
    return packed & mask(version, length), length
