"""The words of DNS: types, rcodes, records, messages, and how stub resolvers read ``resolv.conf``.

Numbers are those of the IANA registry "Domain Name System (DNS) Parameters". Names are strings in presentation
form, with the final dot where they are fully qualified; addresses are strings in their canonical form.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

#: Ports on which a packet may be DNS: the well-known ones, and those that node-local caches and test servers use.
DNS_PORTS = frozenset({53, 5353, 8053, 9053, 1053})


class Rcode(IntEnum):
    """Response codes (RFC 1035 section 4.1.1, RFC 2136 section 2.2)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10


TYPES: dict[str, int] = {
    "A": 1,
    "NS": 2,
    "MD": 3,
    "MF": 4,
    "CNAME": 5,
    "SOA": 6,
    "MB": 7,
    "MG": 8,
    "MR": 9,
    "NULL": 10,
    "WKS": 11,
    "PTR": 12,
    "HINFO": 13,
    "MINFO": 14,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "NAPTR": 35,
    "DNAME": 39,
    "OPT": 41,
    "DS": 43,
    "RRSIG": 46,
    "NSEC": 47,
    "DNSKEY": 48,
    "TLSA": 52,
    "SVCB": 64,
    "HTTPS": 65,
    "SPF": 99,
    "AXFR": 252,
    "ANY": 255,
    "URI": 256,
    "CAA": 257,
}
TYPE_NAMES: dict[int, str] = {number: name for name, number in TYPES.items()}


def type_number(name: str) -> int:
    """The number of a type mnemonic; ``TYPE123`` is understood (RFC 3597 section 5). Raises ``ValueError``."""
    upper = name.upper()
    if upper in TYPES:
        return TYPES[upper]
    if upper.startswith("TYPE") and upper[4:].isdecimal() and int(upper[4:]) < 65536:
        return int(upper[4:])
    raise ValueError(f"unknown record type {name!r}")


def type_name(number: int) -> str:
    """The mnemonic of a type number, ``TYPE123`` where it has none (RFC 3597 section 5)."""
    return TYPE_NAMES.get(number, f"TYPE{number}")


def rcode_name(number: int) -> str:
    """The mnemonic of a response code, ``RCODE11`` where it has none."""
    return Rcode(number).name if 0 <= number <= max(Rcode) else f"RCODE{number}"


class Question(msgspec.Struct, frozen=True):
    """One question: a name in presentation form and a type mnemonic."""

    name: str
    type: str


class RR(msgspec.Struct, frozen=True):
    """One resource record. ``ttl`` in seconds; ``data`` in presentation form."""

    name: str
    ttl: int
    type: str
    data: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One DNS message without its transport. ``rcode`` includes the extended bits of EDNS."""

    id: int = 0
    response: bool = False
    opcode: int = 0
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = True
    recursion_available: bool = False
    rcode: int = 0
    questions: tuple[Question, ...] = ()
    answers: tuple[RR, ...] = ()
    authority: tuple[RR, ...] = ()
    additional: tuple[RR, ...] = ()


class ResolvConf(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/etc/resolv.conf`` says (resolv.conf(5)); ``timeout`` in seconds.

    The limits that a C library sets on it (three servers, six search domains before glibc 2.26, ndots at most
    15) belong to the library and are applied in ``hops/resolver``.
    """

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    rotate: bool = False
    single_request: bool = False
    single_request_reopen: bool = False
    use_vc: bool = False
    edns0: bool = False
    trust_ad: bool = False
    no_aaaa: bool = False
