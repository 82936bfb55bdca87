"""Go's own readings of text where a policy's fate hangs on them: case folding, quoting, numbers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quote(text: str) -> str:
    r"""``strconv.Quote``: quotes, escapes, and ``\x`` or ``\u`` for what is not printable."""
    return f'"{"".join(map(_quoted, text))}"'


def _quoted(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    number = ord(char)
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"


def parse_uint16(text: str) -> int:
    """``strconv.ParseUint(text, 0, 16)``. Raises ``ValueError`` with Go's text.

    The prefixes of Go's literals count, underscores may stand between digits, and a number too large is found before
    a character that is none.
    """
    if not text:
        raise _failed(text, "invalid syntax")
    base, digits = 10, text
    if text[0] == "0":
        prefixed = {"b": 2, "o": 8, "x": 16}.get(text[1:2].lower()) if len(text) > 2 else None
        base, digits = (prefixed, text[2:]) if prefixed else (8, text[1:])
    number = 0
    for char in digits:
        if char == "_":
            continue
        digit = int(char, 36) if char.isascii() and char.isalnum() else base
        if digit >= base:
            raise _failed(text, "invalid syntax")
        number = number * base + digit
        if number > 0xFFFF:
            raise _failed(text, "value out of range")
    body = text[2:] if text[:2].lower() in ("0b", "0o", "0x") else text
    if "__" in body or body.endswith("_") or (body is text and body.startswith("_")):
        raise _failed(text, "invalid syntax")
    return number


def _failed(text: str, why: str) -> ValueError:
    return ValueError(f"strconv.ParseUint: parsing {quote(text)}: {why}")


def address_text(address: IPv4Address | IPv6Address) -> str:
    """``netip.Addr.String``: an IPv4-mapped address keeps its dots. Not for addresses with a zone."""
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped is not None else str(address)
