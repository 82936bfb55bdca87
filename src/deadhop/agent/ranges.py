"""Sets of addresses and ports as sorted ranges of numbers, and how a question about single values becomes one.

A rule divides the numbers at a few boundaries; between two of them its answer cannot change, so one question for
each interval decides all of it. ``where`` asks and joins what holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Range = tuple[int, int]
"""First and last number, both inside."""

LAST = {4: (1 << 32) - 1, 6: (1 << 128) - 1}


def network_range(text: str) -> tuple[int, Range]:
    """(IP version, range) of an address or a CIDR. Raises ``ValueError``."""
    network = ip_network(text, strict=False)
    return network.version, (int(network.network_address), int(network.broadcast_address))


def where(boundaries: Iterable[Range], last: int, holds: Callable[[int], bool]) -> tuple[Range, ...]:
    """The ranges of 0..last in which ``holds``, asked once for each interval between the boundaries."""
    starts = {0}
    for low, high in boundaries:
        starts.add(low)
        if high < last:
            starts.add(high + 1)
    points = sorted(starts)
    found: list[Range] = []
    for at, start in enumerate(points):
        end = points[at + 1] - 1 if at + 1 < len(points) else last
        if holds(start):
            if found and found[-1][1] == start - 1:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return tuple(found)


def inside(ranges: Iterable[Range], number: int) -> bool:
    return any(low <= number <= high for low, high in ranges)


def address_text(number: int, version: int) -> str:
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))


def text_of(ranges: Iterable[Range], version: int) -> Iterator[str]:
    """``first-last`` as nft writes a range, or the one address."""
    for low, high in ranges:
        first = address_text(low, version)
        yield first if low == high else f"{first}-{address_text(high, version)}"


def number_of(address: str) -> tuple[int, int]:
    """(IP version, number) of an address. Raises ``ValueError``."""
    parsed = ip_address(address)
    return parsed.version, int(parsed)
