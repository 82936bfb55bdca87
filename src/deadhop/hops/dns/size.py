"""What the transport leaves of an answer: its size on the wire, and truncation (RFC 1035 section 4.2.1, RFC 6891)."""

from __future__ import annotations

import msgspec

from deadhop.hops.dns.corefile import Corefile
from deadhop.hops.dns.plugins import Client, Served
from deadhop.hops.dns.serve import block_for
from deadhop.model.dns import Message, Question, Rcode
from deadhop.wire.build import truncate, write_message
from deadhop.wire.dns import read_answer

PLAIN_UDP = 512
TCP_MAX = 65535
BUFSIZE_DEFAULT = 1232


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it leaves: octets of the DNS message, and whether and at what limit it was truncated.

    ``full_size`` is what it would have been; ``datagram_ipv4`` adds the IPv4 and UDP headers (28 octets), to compare
    with an MTU.
    """

    size: int
    full_size: int
    limit: int
    truncated: bool
    records: int
    transport: str

    @property
    def datagram_ipv4(self) -> int:
        return self.size + (28 if self.transport == "udp" else 0)


def udp_limit(edns_size: int | None, bufsize: int | None = None) -> int:
    """The largest UDP answer: 512, or what EDNS announces, capped by the ``bufsize`` plugin."""
    if edns_size is None:
        return PLAIN_UDP
    size = max(edns_size, PLAIN_UDP)
    return min(size, max(bufsize, PLAIN_UDP)) if bufsize else size


def bufsize_of(corefile: Corefile, qname: str, port: int = 53) -> int | None:
    """The ``bufsize`` of the server block that answers the name, None where the plugin is not used."""
    found = block_for(corefile, qname, port)
    if found is None:
        return None
    for directive in found[0].all("bufsize"):
        given = directive.args[0] if directive.args else ""
        return int(given) if given.isdecimal() and len(given) < 6 else BUFSIZE_DEFAULT
    return None


def message_of(served: Served, name: str, qtype: str) -> Message:
    """The answer as a message. Raises ``KeyError`` for an answer that is not known."""
    return Message(
        response=True,
        authoritative=served.authoritative,
        recursion_available=True,
        rcode=int(Rcode[served.rcode]),
        questions=(Question(name.rstrip(".") + ".", qtype),),
        answers=served.answers,
    )


def deliver(message: Message, client: Client, bufsize: int | None = None) -> Delivery:
    """Write the message and cut it to what the client's transport takes. Raises ``ValueError`` for odd data."""
    limit = TCP_MAX if client.transport == "tcp" else udp_limit(client.edns_size, bufsize)
    full = write_message(message, edns_size=None if client.edns_size is None else limit, compress=True)
    cut = truncate(full, limit)
    answer = read_answer(cut)
    return Delivery(
        size=len(cut),
        full_size=len(full),
        limit=limit,
        truncated=answer.truncated,
        records=answer.records,
        transport=client.transport,
    )
