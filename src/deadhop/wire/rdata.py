"""Record data in presentation form and back (RFC 1035 section 3.3, RFC 2782, RFC 3596, RFC 3597)."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from deadhop.wire.names import WireError, read_name

_U16 = Struct("!H")
_SRV = Struct("!HHH")
_SOA_NUMBERS = Struct("!5I")

NAME_TYPES = frozenset({2, 5, 12, 39})
"""NS, CNAME, PTR, DNAME: the data is one name."""


def generic_text(octets: bytes) -> str:
    """The form of unknown types (RFC 3597 section 5)."""
    return f"\\# {len(octets)} {octets.hex()}".rstrip()


def _character_strings(octets: bytes, start: int) -> str:
    texts = []
    at = 0
    while at < len(octets):
        piece = octets[at + 1 : at + 1 + octets[at]]
        if len(piece) != octets[at]:
            raise WireError(f"character string ends early at octet {start + at}")
        at += 1 + len(piece)
        quoted = "".join(
            "\\" + chr(o) if o in b'"\\' else chr(o) if 0x20 <= o <= 0x7E else f"\\{o:03d}" for o in piece
        )
        texts.append(f'"{quoted}"')
    return " ".join(texts)


def ipv6_text(address: IPv6Address) -> str:
    """Canonical text, IPv4-mapped addresses with their dotted tail (RFC 5952 section 5)."""
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def rdata_text(data: bytes, start: int, end: int, rtype: int) -> str:
    """The data between two offsets of a message. Raises :class:`WireError` where it does not fit its type."""
    octets = data[start:end]
    if rtype == 1 or rtype == 28:
        if len(octets) != (4 if rtype == 1 else 16):
            raise WireError(f"address of {len(octets)} octets at octet {start}")
        return str(IPv4Address(octets)) if rtype == 1 else ipv6_text(IPv6Address(octets))
    if rtype == 16:
        return _character_strings(octets, start)
    fixed, count = {33: (6, 1), 15: (2, 1), 6: (0, 2)}.get(rtype, (0, 1 if rtype in NAME_TYPES else 0))
    if not count:
        return generic_text(octets)
    if len(octets) < fixed:
        raise WireError(f"record data ends early at octet {start}")
    at = start + fixed
    names = []
    for _ in range(count):
        name, at = read_name(data, at)
        names.append(name)
    tail = ""
    if rtype == 6:
        if at + 20 != end:
            raise WireError(f"SOA does not fill its record at octet {start}")
        tail = " " + " ".join(map(str, _SOA_NUMBERS.unpack_from(data, at)))
    elif at != end:
        raise WireError(f"record data is not one name at octet {start}")
    head = "".join(f"{_U16.unpack_from(octets, place)[0]} " for place in range(0, fixed, 2))
    return head + " ".join(names) + tail


NameWriter = Callable[[str], bytes]


def rdata_octets(rtype: int, text: str, write_name: NameWriter) -> bytes:
    """Presentation form to octets; ``write_name`` may compress names of RFC 1035 types. Raises ``ValueError``."""
    if text.startswith("\\#"):
        _, size, *hexes = text.split()
        octets = bytes.fromhex("".join(hexes))
        if len(octets) != int(size):
            raise ValueError(f"length does not fit: {text!r}")
        return octets
    if rtype == 1:
        return IPv4Address(text).packed
    if rtype == 28:
        return IPv6Address(text).packed
    if rtype in NAME_TYPES:
        return write_name(text)
    fields = text.split()
    if rtype == 15 and len(fields) == 2:
        return _U16.pack(int(fields[0])) + write_name(fields[1])
    if rtype == 33 and len(fields) == 4:
        return _SRV.pack(*map(int, fields[:3])) + write_name(fields[3])
    if rtype == 6 and len(fields) == 7:
        return write_name(fields[0]) + write_name(fields[1]) + _SOA_NUMBERS.pack(*map(int, fields[2:]))
    if rtype == 16:
        return _text_octets(text)
    raise ValueError(f"no data of type {rtype}: {text!r}")


_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)', re.S)


def _text_octets(text: str) -> bytes:
    out = bytearray()
    for quoted, bare in _STRING.findall(text):
        raw = re.sub(
            r"\\([0-9]{3}|.)",
            lambda m: chr(int(m[1])) if len(m[1]) == 3 else m[1],
            quoted or bare,
            flags=re.S,
        )
        octets = raw.encode("latin-1", "replace")
        if len(octets) > 255:
            raise ValueError("character string longer than 255 octets")
        out += bytes([len(octets)]) + octets
    return bytes(out)
