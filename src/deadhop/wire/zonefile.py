"""Answers from a zone file, as an authoritative server gives them (RFC 1034 section 4.3.2).

dnspython reads the file and holds the records; here are the steps of the lookup: exact name, CNAME, delegation,
wildcard, empty non-terminal, NXDOMAIN. A CNAME is followed within the zone.
"""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

CHAIN = 16


class ZoneError(Exception):
    """The zone file cannot be served; the message names file and line."""


class ZoneFile:
    """One zone. ``origin`` comes from ``$ORIGIN``, from the owner of the SOA record, or from the caller."""

    def __init__(self, text: str, where: str = "zone", origin: str | None = None) -> None:
        named = origin or _origin(text)
        if named is None:
            raise ZoneError(f"{where}: no $ORIGIN line and no SOA record with a full name: give --origin")
        try:
            self.zone = dns.zone.from_text(
                text, origin=named, relativize=False, check_origin=False, filename=where
            )
        except dns.exception.DNSException as error:
            raise ZoneError(f"{where}: {error}" if where not in str(error) else str(error)) from None
        if not self.zone.nodes:
            raise ZoneError(f"{where}: no record in it")
        self.origin = self.zone.origin
        assert self.origin is not None
        self.names = set(self.zone.nodes)
        for name in list(self.names):
            while name != self.origin and name.is_subdomain(self.origin):
                name = name.parent()
                self.names.add(name)

    @property
    def has_soa(self) -> bool:
        """Whether the origin has its SOA record."""
        origin = self.origin
        return origin is not None and bool(self._sets(origin, origin, dns.rdatatype.SOA))

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The reply to a query, of any size."""
        reply = dns.message.make_response(query, our_payload=65535)
        reply.use_edns(0 if query.edns >= 0 else False, payload=4096)
        if query.edns > 0:
            reply.set_rcode(dns.rcode.BADVERS)
            return reply
        if query.opcode() != dns.opcode.QUERY:
            reply.set_rcode(dns.rcode.NOTIMP)
            return reply
        if len(query.question) != 1:
            reply.set_rcode(dns.rcode.FORMERR)
            return reply
        asked = query.question[0]
        assert self.origin is not None
        if asked.rdclass != dns.rdataclass.IN or not asked.name.is_subdomain(self.origin):
            reply.set_rcode(dns.rcode.REFUSED)
            return reply
        reply.flags |= dns.flags.AA
        self._resolve(reply, asked.name, asked.rdtype)
        return reply

    def _resolve(
        self, reply: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> None:
        assert self.origin is not None
        for _ in range(CHAIN):
            cut = self._cut(name, rdtype)
            if cut is not None:
                if not reply.answer:
                    reply.flags &= ~dns.flags.AA
                reply.authority.append(cut)
                for target in (rdata.target for rdata in cut):
                    reply.additional += self._sets(target, target, dns.rdatatype.ANY)
                return
            holder = self._holder(name)
            if holder is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = self._sets(holder, name, rdtype)
            if found:
                reply.answer += found
                return
            alias = self._sets(holder, name, dns.rdatatype.CNAME)
            if not alias:
                break
            reply.answer += alias
            name = alias[0][0].target
            if not name.is_subdomain(self.origin):
                return
        reply.authority += self._sets(self.origin, self.origin, dns.rdatatype.SOA)

    def _holder(self, name: dns.name.Name) -> dns.name.Name | None:
        """The name whose records answer: itself, or the wildcard of the closest encloser (RFC 4592 section 3.3.1)."""
        if name in self.names:
            return name
        above = name.parent()
        while above not in self.names:
            if above == self.origin:
                return None
            above = above.parent()
        star = dns.name.Name((b"*", *above.labels))
        return star if star in self.names else None

    def _sets(
        self, holder: dns.name.Name, owner: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> list[dns.rrset.RRset]:
        node = self.zone.nodes.get(holder)
        found: list[dns.rrset.RRset] = []
        for rdataset in node.rdatasets if node is not None else ():
            if rdtype in (rdataset.rdtype, dns.rdatatype.ANY):
                made = dns.rrset.RRset(owner, rdataset.rdclass, rdataset.rdtype)
                for rdata in rdataset:
                    made.add(rdata, rdataset.ttl)
                found.append(made)
        return found

    def _cut(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        """The NS set of a delegation at or above the name, below the apex."""
        at = name
        while at != self.origin and at.is_subdomain(self.origin or at):
            ns = self._sets(at, at, dns.rdatatype.NS)
            if ns and not (at == name and rdtype == dns.rdatatype.DS):
                return ns[0]
            at = at.parent()
        return None


def _origin(text: str) -> str | None:
    """The zone's name where no one gave it: the first $ORIGIN, or the owner of the SOA record."""
    for line in text.splitlines():
        words = line.partition(";")[0].split()
        if words[:1] == ["$ORIGIN"] and len(words) > 1:
            return words[1]
        if "SOA" in words[1:4] and words[0].endswith("."):
            return words[0]
    return None
