"""What a DNS message teaches (``dnsproxy.ExtractResponseMsgDetails``).

A response is filed under the name asked for, never under the CNAME's target, with every address of its answer
section and the smallest TTL of the chain. Authority and additional sections never count; SRV, HTTPS and MX teach
nothing. Up to 1.17 every owner had to equal the name asked for or the CNAME target just before it.
"""

from __future__ import annotations

import msgspec

from deadhop.fqdn.cache import canonical_ip
from deadhop.fqdn.names import from_presentation
from deadhop.fqdn.options import LATEST, V1_17, V1_18, V1_20, Version
from deadhop.model.dns import Message, Rcode, type_number

NO_TTL = 0xFFFFFFFF
ADDRESS_TYPES = ("A", "AAAA")


class ExtractError(ValueError):
    """The proxy cannot use the message."""


class MessageDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What the proxy reads out of a message. ``ttl`` is ``NO_TTL`` where nothing in the answer sets one."""

    qname: str
    qtypes: tuple[int, ...] = ()
    response: bool = False
    ttl: int = NO_TTL
    ips: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    rcode: int = 0
    answer_types: tuple[int, ...] = ()

    @property
    def learned(self) -> bool:
        """Only a successful response with at least one address changes the cache."""
        return self.response and self.rcode == Rcode.NOERROR and bool(self.ips)


def _qname(message: Message) -> str:
    if not message.questions:
        raise ExtractError("invalid DNS message: no question")
    return from_presentation(message.questions[0].name).lower()


def _qtypes(message: Message, version: Version) -> tuple[int, ...]:
    """The types asked for; since 1.20 that of the first question alone."""
    asked = message.questions[:1] if version >= V1_20 else message.questions
    return tuple(type_number(question.type) for question in asked)


def extract_request(message: Message, version: Version = LATEST) -> MessageDetails:
    """Name and types asked for. Answers in a request are passed over. Raises :class:`ExtractError`."""
    return MessageDetails(qname=_qname(message), qtypes=_qtypes(message, version))


def extract_response(message: Message, version: Version) -> MessageDetails:
    """Name, addresses, chain and TTL of a response. Raises :class:`ExtractError`."""
    qname = _qname(message)
    if not message.response:
        raise ExtractError("invalid DNS message: not a response")
    expected = qname
    ttl = NO_TTL
    ips: list[str] = []
    cnames: list[str] = []
    types: list[int] = []
    for rr in message.answers:
        if version < V1_18 and from_presentation(rr.name).lower() != expected:
            raise ExtractError(f"unexpected name ({rr.name}) in RRs for {expected} (query for {qname})")
        types.append(type_number(rr.type))
        if rr.type in ADDRESS_TYPES:
            ips.append(canonical_ip(rr.data))
            ttl = min(ttl, rr.ttl)
        elif rr.type == "CNAME":
            cnames.append(from_presentation(rr.data))
            ttl = min(ttl, rr.ttl)
            expected = cnames[-1].lower()
    return MessageDetails(
        qname=qname,
        qtypes=_qtypes(message, version),
        response=True,
        ttl=ttl,
        ips=tuple(ips),
        cnames=tuple(cnames),
        rcode=message.rcode,
        answer_types=tuple(types),
    )


def bad_answer_reaches_client(version: Version) -> bool:
    """What becomes of a response that :func:`extract_response` refuses: forwarded unlearned, but rejected in 1.17."""
    return version[:2] != V1_17[:2]
