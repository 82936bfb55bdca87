"""One connection judged from a listing of the FQDN cache, without its history."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import Version
from deadhop.fqdn.selectors import FQDNSelector, SelectorIndex
from deadhop.hops.fqdn.replay import Connect, Decision
from deadhop.model.record import Source


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the cache: a name, its addresses, and when its lookup expires (None: not said).

    ``connection`` rows have no lookup any more; they last as long as conntrack shows a flow.
    """

    name: str
    ips: tuple[str, ...]
    until: float | None = None
    connection: bool = False
    sources: tuple[Source, ...] = ()


def decide(
    selectors: Iterable[FQDNSelector],
    known: Iterable[Known],
    connect: Connect,
    version: Version,
    *,
    complete: bool,
) -> Decision:
    """Whether a selector covers the address under a known name.

    ``complete``: the listing is whole, so that an address which is not in it is a fact. An entry that expired
    before the connection leaves the answer open: it stays until the next GC and longer while connections live.
    """
    index = SelectorIndex(version, selectors)
    holding = [row for row in known if connect.ip in row.ips]
    others: list[str] = []
    expired: Decision | None = None
    for row in holding:
        name = fqdn(row.name)
        covering = index.match(name)
        if not covering:
            others.append(name)
            continue
        decision = Decision(
            connect=connect,
            allowed=True,
            selector=covering[0],
            names=(name,),
            until=row.until,
            because=f"{covering[0].label} covers {name}",
            sources=row.sources,
        )
        if row.until is None or row.connection or connect.at <= row.until:
            return decision
        expired = msgspec.structs.replace(
            decision,
            allowed=None,
            because=f"the lookup of {name} had expired; how long its address stays is not said",
        )
    if expired is not None:
        return expired
    sources = tuple(source for row in holding for source in row.sources)
    if holding:
        known_as = ", ".join(dict.fromkeys(others))
        because = f"the address is known as {known_as} only, which no selector matches"
    else:
        because = "no name has been learned for the address"
    return Decision(
        connect=connect,
        allowed=False if complete else None,
        names=tuple(dict.fromkeys(others)),
        because=because if complete else f"{because}, as far as the evidence shows",
        sources=sources,
    )
