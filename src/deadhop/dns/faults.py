"""Faults on demand: what a server does to an answer on its way out.

One :class:`Faults` is one server's set of faults. Everything here is octets in, octets out; ``listen`` keeps time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from deadhop.wire.build import truncate

PLAIN_UDP = 512
TXT_OVERHEAD = 11
"""Root owner, type, class, TTL and length of a TXT record."""
REMEMBERED = 100_000


@dataclass
class Faults:
    """``pad`` fills every answer up to that many octets (0: not). ``delay`` is in seconds. ``drop_first`` so many
    datagrams of each question from each client are not answered. ``truncate_at`` is the largest UDP answer whatever
    the client announces. Without ``tc`` nothing says that an answer is cut: the whole answer goes out by UDP, or with
    ``truncate_at`` a part of it."""

    pad: int = 0
    delay: float = 0.0
    drop_first: int = 0
    truncate_at: int | None = None
    tc: bool = True
    _seen: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def drops(self, client: str, query: dns.message.Message) -> bool:
        """Whether this datagram is one of the first of its question."""
        if not self.drop_first or not query.question:
            return False
        asked = query.question[0]
        key = (client, asked.name.to_text().lower(), int(asked.rdtype))
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= self.drop_first

    def wire(self, query: dns.message.Message, reply: dns.message.Message, transport: str) -> bytes:
        """The answer's octets as this transport takes them."""
        if self.pad and reply.rcode() == dns.rcode.NOERROR:
            _pad(reply, self.pad)
        whole = reply.to_wire(max_size=65535)
        if transport == "tcp":
            return whole
        limit = max(PLAIN_UDP, query.payload) if query.edns >= 0 else PLAIN_UDP
        if self.truncate_at is not None:
            limit = min(limit, self.truncate_at) if self.tc else self.truncate_at
        elif not self.tc:
            return whole
        cut = truncate(whole, limit)
        if not self.tc:
            cut = cut[:2] + bytes([cut[2] & ~0x02]) + cut[3:]
        return cut


def _pad(reply: dns.message.Message, size: int) -> None:
    """Adds a TXT record of the root to the additional section, so that the answer has exactly ``size`` octets.

    An answer that is larger already, or smaller by less than the smallest record, is left or gets that record.
    """
    missing = size - len(reply.to_wire(max_size=65535))
    if missing <= 0:
        return
    length = max(1, missing - TXT_OVERHEAD)
    octets = bytearray()
    while length:
        piece = min(256, length)
        octets += bytes([piece - 1]) + b"." * (piece - 1)
        length -= piece
    rdata = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, bytes(octets), 0, len(octets))
    pad = dns.rrset.RRset(dns.name.root, dns.rdataclass.IN, dns.rdatatype.TXT)
    pad.add(rdata, 0)
    reply.additional.append(pad)
