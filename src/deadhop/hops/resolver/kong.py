"""Kong's DNS client (``kong.resty.dns.client``): types outside, search list inside, CNAMEs followed by itself.

For each type of ``dns_order`` every candidate is asked; the first that has a record of that type under its own name
wins. Records of other types or owners are taken off the answer and put into the cache: an A query for a name with a
CNAME finds no A of its own, but leaves the CNAME behind. A CNAME is followed by a new lookup of its target with the
whole order again. ``LAST`` is the type that succeeded last for that name. So with ``LAST`` first, a name with a CNAME
is asked for its CNAME only, from the second time on, and A is asked for the last target alone.
"""

from __future__ import annotations

import msgspec

from deadhop.hops.resolver.exchange import Lookup, Session, Told, expand
from deadhop.model.dns import RR

MAX_CNAMES = 10
NAME_ERROR = "dns server error: 3 name error"
EMPTY = "dns client error: 101 empty record received"
RECURSION = "dns client error: 100 cache only or recursion limit"
_RCODES = {
    "FORMERR": "1 format error",
    "SERVFAIL": "2 server failure",
    "NXDOMAIN": "3 name error",
    "NOTIMP": "4 not implemented",
    "REFUSED": "5 refused",
}


class KongState(msgspec.Struct, frozen=True, kw_only=True):
    """What the client remembers between lookups: the last successful type by name, and cached records.

    ``cached`` maps (name with final dot, type) to records; leave it empty for a client whose entries have expired.
    """

    last: dict[str, str] = msgspec.field(default_factory=dict)
    cached: dict[tuple[str, str], tuple[RR, ...]] = msgspec.field(default_factory=dict)


class _Client:
    def __init__(self, session: Session, state: KongState) -> None:
        self.session = session
        self.last = dict(state.last)
        self.cached = dict(state.cached)
        self.error = NAME_ERROR

    def records(self, name: str, rtype: str) -> tuple[RR, ...]:
        """The records of one question, from the cache or from a server."""
        key = (name.lower(), rtype)
        if key in self.cached:
            return self.cached[key]
        own: list[RR] = []
        for server in self.session.servers:
            reply = self.session.ask(name, rtype, server)
            if reply.rcode == "TIMEOUT":
                self.error = "dns client error: timeout"
                continue
            others: dict[tuple[str, str], list[RR]] = {}
            for rr in reply.answers:
                owner = rr.name.lower()
                if rr.type == rtype and owner == name.lower():
                    own.append(rr)
                else:
                    others.setdefault((owner, rr.type), []).append(rr)
            for other, found in others.items():
                self.cached.setdefault(other, tuple(found))
            if reply.rcode != "NOERROR":
                self.error = f"dns server error: {_RCODES.get(reply.rcode, reply.rcode)}"
            elif not own:
                self.error = EMPTY
            break
        self.cached[key] = tuple(own)
        return tuple(own)

    def candidates(self, name: str) -> list[str]:
        bare = expand(name, "")
        if name.endswith("."):
            return [bare]
        longer = [expand(name, domain) for domain in self.session.search]
        return [bare, *longer] if name.count(".") >= self.session.ndots else [*longer, bare]

    def types(self, name: str) -> list[str]:
        order = []
        for rtype in self.session.profile.dns_order:
            asked = self.last.get(expand(name, "").lower(), "") if rtype == "LAST" else rtype
            if asked and asked not in order:
                order.append(asked)
        return order

    def lookup(self, name: str, depth: int = 0) -> Told:
        if depth > MAX_CNAMES:
            return Told(error=RECURSION, name=name)
        at = expand(name, "")
        for rtype in self.types(name):
            for at in self.candidates(name):
                records = self.records(at, rtype)
                if not records:
                    continue
                self.last[expand(name, "").lower()] = rtype
                if rtype in ("CNAME", "SRV"):
                    target = records[0].data.split()[-1].rstrip(".")
                    return self.lookup(target, depth + 1)
                return Told(addresses=tuple(rr.data for rr in records), name=at)
        return Told(error=self.error, name=at)


def kong(session: Session, name: str, state: KongState) -> tuple[Lookup, KongState]:
    """One lookup and what the client remembers after it."""
    client = _Client(session, state)
    told = client.lookup(name)
    return session.done(told), KongState(last=client.last, cached=client.cached)
