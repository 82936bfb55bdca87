"""The ``file`` plugin: answers from a zone file that the Corefile names (``plugin/file``, ``lookup.go``).

A CNAME out of the zone is looked up through the server itself; ``serve`` does that, so that this file knows one zone.
"""

from __future__ import annotations

from functools import lru_cache
from posixpath import join
from typing import TYPE_CHECKING

from deadhop.hops.dns.corefile import Directive, Zone
from deadhop.hops.dns.plugins import Served, World, falls_through, held_by, zones_of
from deadhop.model.dns import RR, TYPES

if TYPE_CHECKING:
    from deadhop.wire.zonefile import ZoneFile

MAX_ZONE_OCTETS = 4 << 20


def file(
    directive: Directive, block: tuple[Zone, ...], world: World, qname: str, qtype: str, root: str = ""
) -> Served | None:
    """``file DBFILE [ZONES…]``. ``root`` is the folder of relative paths (the ``root`` plugin)."""
    zone = held_by(qname, zones_of(directive, block, skip=1))
    if not directive.args or not zone:
        return None
    path = (
        directive.args[0] if directive.args[0].startswith("/") or not root else join(root, directive.args[0])
    )
    text = world.files.get(path)
    if text is None or len(text) > MAX_ZONE_OCTETS:
        return Served(by="file", zone=zone, unknown=f"the zone file {path} is not here")
    found = _zone(text, path, zone)
    if isinstance(found, str):
        return Served(by="file", zone=zone, unknown=f"CoreDNS does not start with this zone file: {found}")
    if qtype not in TYPES:
        return Served(by="file", zone=zone, unknown=f"{qtype} is no type of a question here")
    rcode, records, authoritative = _asked(found, qname, qtype)
    if rcode == "NXDOMAIN" and not records and falls_through(directive, qname):
        return None
    return Served(rcode=rcode, answers=records, by="file", zone=zone, authoritative=authoritative)


@lru_cache(maxsize=8)
def _zone(text: str, path: str, origin: str) -> ZoneFile | str:
    """The zone, or why CoreDNS would refuse it."""
    from deadhop.wire.zonefile import ZoneError, ZoneFile

    try:
        made = ZoneFile(text, path, origin)
    except ZoneError as error:
        return str(error)
    return made if made.has_soa else f"{path}: no SOA record for {origin}"


def _asked(zone: ZoneFile, qname: str, qtype: str) -> tuple[str, tuple[RR, ...], bool]:
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rdatatype

    reply = zone.answer(dns.message.make_query(qname, qtype))
    records = tuple(
        RR(s.name.to_text().lower(), s.ttl, dns.rdatatype.to_text(s.rdtype), rdata.to_text())
        for s in reply.answer
        for rdata in s
    )
    return dns.rcode.to_text(reply.rcode()), records, bool(reply.flags & dns.flags.AA)
