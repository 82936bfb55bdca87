"""Veth pairs: two devices in two namespaces, each naming the other by its number (``eth0@if417``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from deadhop.model.net import Link


class VethPair(NamedTuple):
    """The end in the pod and the end on the host."""

    pod: Link
    host: Link


def peer_index(link: Link) -> int | None:
    """The peer's ifindex where it lies in another namespace (``@ifN``), else None."""
    match = re.fullmatch(r"if(\d+)", link.link or "")
    return int(match[1]) if match else None


def pairs(links: Sequence[Link]) -> list[VethPair]:
    """Pairs whose ends name each other. The pod's end is the one called eth… or entered by ``nsenter``/``exec``."""
    found: list[VethPair] = []
    seen: set[frozenset[int | None]] = set()
    for a in links:
        for b in links:
            if a is b or a.ifindex is None or b.ifindex is None:
                continue
            if peer_index(a) != b.ifindex or peer_index(b) != a.ifindex or a.ifname == b.ifname:
                continue
            key = frozenset((a.ifindex, b.ifindex))
            if key not in seen:
                seen.add(key)
                inside = (
                    a
                    if (_entered(a) and not _entered(b)) or (not _entered(b) and a.ifname.startswith("eth"))
                    else b
                )
                found.append(VethPair(inside, b if inside is a else a))
    return found


def _entered(link: Link) -> bool:
    """Whether the listing was made inside a namespace that had been entered, and not on a host."""
    return bool(link.where) and not link.where.startswith("host ")
