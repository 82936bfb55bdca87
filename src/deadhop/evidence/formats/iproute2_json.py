"""``ip -j`` listings and ``nft -j list ruleset`` in a file or a transcript of their own.

The same readers as for a namespace's folder; the kind of a listing follows from the keys of its objects, the address
family from its addresses or from ``-6`` on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from deadhop.evidence.format import Context, Locate, ValueFormat
from deadhop.evidence.namespace import iproute2, nft
from deadhop.model.net import Listing
from deadhop.model.record import Record

Reader = Callable[[bytes, str], Iterator[Record]]
#: What a link has besides its name; a command may have left out everything else.
_OF_LINK = frozenset({"ifindex", "mtu", "linkinfo", "operstate", "qdisc", "addr_info"})


def _reader(value: Any, six: bool = False) -> Reader | None:
    if isinstance(value, dict):
        return nft.ruleset if isinstance(value.get("nftables"), list) else None
    first = next((item for item in value if item), None) if isinstance(value, list) else None
    if not isinstance(first, dict):
        return None
    keys = first.keys()
    if "priority" in keys and ("src" in keys or "table" in keys or "action" in keys):
        return iproute2.rules6 if six else iproute2.rules4
    if "ifname" in keys and keys & _OF_LINK:
        return iproute2.addresses if "addr_info" in keys else iproute2.links
    if "dst" in keys and "lladdr" in keys and "dev" in keys:
        return iproute2.neighbours
    if "dst" in keys and keys & {"dev", "gateway", "type", "nexthops", "protocol"}:
        return iproute2.routes6 if six else iproute2.routes
    return None


def _read(value: Any, locate: Locate, context: Context) -> Iterable[Record]:
    six = context.ran("ip") and context.command is not None and "-6" in context.command.argv
    reader = _reader(value, six)
    if reader is None:
        return
    cut = any("ifname" in item and "ifindex" not in item for item in value if isinstance(item, dict))
    for record in reader(msgspec.json.encode(value), locate.file):
        if cut and isinstance(record, Listing):
            continue  # what a filter chose of a listing is not the whole
        yield msgspec.structs.replace(record, source=locate(record.source.path), where=context.where)


FORMAT = ValueFormat("iproute2-json", lambda value: _reader(value) is not None, _read, priority=25)
