"""What one row of the catalogue of kernel functions says."""

from __future__ import annotations

import msgspec


class KernelFunction(msgspec.Struct, frozen=True):
    """A function that a packet passes: what it does, where it stands, how a packet can end in it.

    ``part`` is the stage: device, bridge, ipv4, ipv6, forward, output, neighbour, netfilter, tunnel, udp, tcp, icmp,
    queue, end. ``drops`` are drop reasons (see :mod:`deadhop.model.drop_reasons`) that it gives, ``counters`` what it
    moves when it does. ``causes`` are slugs of the knowledge base.
    """

    name: str
    part: str
    file: str
    means: str
    drops: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


def row(
    name: str, part: str, file: str, means: str, drops: str = "", counters: str = "", causes: str = ""
) -> KernelFunction:
    """A row of a table; words in one string are separated by spaces."""
    return KernelFunction(
        name, part, file, means, tuple(drops.split()), tuple(counters.split()), tuple(causes.split())
    )
