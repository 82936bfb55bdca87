"""Domain names on the wire (RFC 1035 sections 3.1 and 4.1.4) and in presentation form (RFC 4343, RFC 9499).

Decoding accepts what RFC 1035 allows and nothing else: labels of at most 63 octets, names of at most 255, pointers
that point strictly backwards (so no loops). Octets that presentation form cannot hold are escaped: ``\\.``, ``\\032``.
"""

from __future__ import annotations

import re

MAX_NAME = 255
MAX_LABEL = 63

_PLAIN = re.compile(rb"[-0-9A-Za-z_*/:+=,!#%&'<>?\[\]^`{|}~]*\Z")
_QUOTED = frozenset(b'."();@$\\')
_ESCAPE = re.compile(r"\\(?:([0-9]{3})|(.))|(\\)", re.S)


class WireError(ValueError):
    """The octets are not a DNS message: the sender's fault. The text says what is wrong and at which octet."""


def _label_text(label: bytes) -> str:
    if _PLAIN.match(label):
        return label.decode("ascii")
    out = []
    for octet in label:
        if octet in _QUOTED:
            out.append("\\" + chr(octet))
        elif 0x21 <= octet <= 0x7E:
            out.append(chr(octet))
        else:
            out.append(f"\\{octet:03d}")
    return "".join(out)


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """(name with final dot, offset behind it). Raises :class:`WireError`."""
    labels: list[bytes] = []
    end = -1
    length = 1
    floor = at
    try:
        while True:
            octet = data[at]
            if octet == 0:
                at += 1
                break
            if octet < 0x40:
                label = data[at + 1 : at + 1 + octet]
                if len(label) != octet:
                    raise WireError(f"name ends early at octet {at}")
                length += octet + 1
                if length > MAX_NAME:
                    raise WireError(f"name longer than {MAX_NAME} octets at octet {at}")
                labels.append(label)
                at += octet + 1
            elif octet >= 0xC0:
                target = (octet & 0x3F) << 8 | data[at + 1]
                if end < 0:
                    end = at + 2
                if target >= floor:
                    raise WireError(f"compression pointer at octet {at} does not point backwards")
                at = floor = target
            else:
                raise WireError(f"unknown label type at octet {at}")
    except IndexError:
        raise WireError(f"name ends early at octet {at}") from None
    if end < 0:
        end = at
    if not labels:
        return ".", end
    joined = b".".join(labels)
    if joined.count(b".") == len(labels) - 1 and _PLAIN.match(joined.replace(b".", b"")):
        return joined.decode("ascii") + ".", end
    return ".".join(map(_label_text, labels)) + ".", end


def skip_name(data: bytes, at: int) -> int:
    """The offset behind a name, without looking at where its pointer leads. Raises :class:`WireError`."""
    size = len(data)
    while at < size:
        octet = data[at]
        if octet == 0:
            return at + 1
        if octet >= 0xC0:
            if at + 2 > size:
                break
            return at + 2
        if octet >= 0x40:
            raise WireError(f"unknown label type at octet {at}")
        at += octet + 1
    raise WireError(f"name ends early at octet {at}")


def labels_of(name: str) -> list[bytes]:
    """The labels of a name in presentation form, without the root. Raises ``ValueError``."""
    if name in (".", ""):
        return []
    if name.isascii() and "\\" not in name:
        labels = name.removesuffix(".").encode().split(b".")
    else:
        labels = _escaped_labels(name)
    if any(not 0 < len(label) <= MAX_LABEL for label in labels):
        raise ValueError(f"empty or too long label in {name!r}")
    if sum(map(len, labels)) + len(labels) + 1 > MAX_NAME:
        raise ValueError(f"name longer than {MAX_NAME} octets: {name!r}")
    return labels


def _escaped_labels(name: str) -> list[bytes]:
    labels = [bytearray()]
    at = 0
    while at < len(name):
        char = name[at]
        if char == "\\":
            found = _ESCAPE.match(name, at)
            if not found or found[3] is not None or (found[1] and int(found[1]) > 255):
                raise ValueError(f"bad escape in {name!r}")
            octets = bytes([int(found[1])]) if found[1] else found[2].encode()
            labels[-1] += octets
            at = found.end()
            continue
        if char == ".":
            labels.append(bytearray())
        else:
            labels[-1] += char.encode()
        at += 1
    if not labels[-1]:
        labels.pop()
    return [bytes(label) for label in labels]


def write_name(name: str) -> bytes:
    """A name without compression. Raises ``ValueError``."""
    return b"".join(bytes([len(label)]) + label for label in labels_of(name)) + b"\0"
