"""What one row of the drop reason catalogue says."""

from __future__ import annotations

import msgspec


class DropReason(msgspec.Struct, frozen=True):
    """One reason: its meaning, the functions that give it, the counters that move, the kernels that have it.

    ``name`` has no prefix. ``since`` is the first mainline release with the name in the place given here; stable kernels
    may have it earlier. ``until`` is the release that removed it or gave it another name (``renamed``). ``layer`` is
    where in the stack it happens: link, qdisc, neighbour, tunnel, netfilter, ip, ndisc, tcp, udp, socket, or any.
    ``causes`` are slugs of the knowledge base that end this way.
    """

    name: str
    means: str
    functions: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    since: str = "5.17"
    layer: str = "any"
    files: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    until: str = ""
    renamed: str = ""


def row(
    name: str,
    means: str,
    layer: str,
    since: str,
    functions: str = "",
    files: str = "",
    counters: str = "",
    causes: str = "",
    until: str = "",
    renamed: str = "",
) -> DropReason:
    """A row of a table; words in one string are separated by spaces."""
    return DropReason(
        name,
        means,
        tuple(functions.split()),
        tuple(counters.split()),
        since,
        layer,
        tuple(files.split()),
        tuple(causes.split()),
        until,
        renamed,
    )
