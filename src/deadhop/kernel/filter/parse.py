"""Text to tree, in the grammar of pcap-filter(7).

Negation binds tightest; ``and`` and ``or`` bind alike and group from the left, as tcpdump has it. A value without a
word takes the words before it: ``port 53 or 5353``, ``src host 10.0.0.1 or 10.0.0.2``. Names of hosts are not looked
up: a filter that asks the network is no help when the network fails.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
from collections.abc import Callable, Mapping

from deadhop.kernel.filter.nodes import (
    EVERYTHING,
    Address,
    And,
    Device,
    EtherType,
    FilterError,
    Length,
    Mark,
    Namespace,
    Node,
    Not,
    Or,
    Port,
    Protocol,
    Reason,
    Version,
)

_TOKEN = re.compile(r"\s*(\(|\)|&&|\|\||!(?!=)|[^\s()!]+)")
_PROTOCOLS: dict[str, Node] = {
    "tcp": Protocol(6), "udp": Protocol(17), "sctp": Protocol(132), "icmp": Protocol(1, 4), "icmp6": Protocol(58, 6),
    "igmp": Protocol(2), "gre": Protocol(47), "esp": Protocol(50), "ah": Protocol(51),
    "ip": Version(4), "ip6": Version(6), "arp": EtherType(0x0806),
}  # fmt: skip
_SIDES = ("src", "dst")
_TYPES = ("host", "net", "port", "portrange")
_VALUES = ("dev", "netns", "reason", "mark", "less", "greater", "proto")
#: Longer filters are refused before they become a tree too deep to walk.
LONGEST = 500
#: Every word of the language, for the suggestion after a slip.
WORDS = (*_PROTOCOLS, *_SIDES, *_TYPES, *_VALUES, "and", "or", "not")

#: ``netns`` words to an inode; raises ValueError with what to say.
Resolve = Callable[[str], int]


def _number(text: str) -> int:
    return int(text, 0)


class _Parser:
    def __init__(self, text: str, reasons: Mapping[str, int], netns: Resolve) -> None:
        self.text = text
        self.reasons = reasons
        self.netns = netns
        self.tokens: list[tuple[str, int]] = []
        place, end = 0, len(text.rstrip())
        while place < end:
            match = _TOKEN.match(text, place)
            assert match  # the pattern takes any character
            self.tokens.append((match[1], match.start(1)))
            place = match.end()
        if len(self.tokens) > LONGEST:
            raise FilterError(f"a filter has at most {LONGEST} words, this has {len(self.tokens)}")
        self.next = 0
        self.side = self.type = ""

    def wrong(self, message: str, index: int | None = None) -> FilterError:
        index = self.next if index is None else index
        column = self.tokens[index][1] if index < len(self.tokens) else len(self.text.rstrip())
        return FilterError(f"{message}\n  {self.text}\n  {' ' * column}^")

    def peek(self) -> str:
        return self.tokens[self.next][0] if self.next < len(self.tokens) else ""

    def take(self, what: str) -> str:
        token = self.peek()
        if not token or token in ("(", ")"):
            raise self.wrong(f"{what} is missing")
        self.next += 1
        return token

    # -- grammar -----------------------------------------------------------------------------------------------

    def whole(self) -> Node:
        if not self.tokens:
            return EVERYTHING
        tree = self.chain(0)
        if self.next < len(self.tokens):
            raise self.wrong(f"what should {self.peek()!r} say here? join with and, or")
        return tree

    def chain(self, depth: int) -> Node:
        tree = self.unary(depth)
        while self.peek() in ("and", "&&", "or", "||"):
            word = self.take("and")
            right = self.unary(depth)
            tree = And(tree, right) if word in ("and", "&&") else Or(tree, right)
        return tree

    def unary(self, depth: int) -> Node:
        if depth > 64:
            raise self.wrong("nested too deep")
        if self.peek() in ("not", "!"):
            self.next += 1
            return Not(self.unary(depth + 1))
        if self.peek() == "(":
            self.next += 1
            tree = self.chain(depth + 1)
            if self.peek() != ")":
                raise self.wrong("a ) is missing")
            self.next += 1
            return tree
        return self.primitive()

    def primitive(self) -> Node:
        word = self.take("a condition")
        if word in _VALUES:
            self.side = self.type = ""
            return self.valued(word)
        kind = _PROTOCOLS.get(word)
        if kind is not None:
            if self.peek() not in (*_SIDES, *_TYPES):
                return kind
            word = self.take("a condition")
            self.side = self.type = ""
        if word in _SIDES:
            self.side, self.type = word, ""
            if self.peek() in ("or", "and") and self.following() in _SIDES:
                raise self.wrong("write 'host X' for either side, 'src X and dst Y' for both")
            word = self.take("an address or port")
            if word in _TYPES:
                self.type = word
                word = self.take(self.wanted())
        elif word in _TYPES:
            self.side, self.type = "", word
            word = self.take(self.wanted())
        leaf = self.value(word)
        return leaf if kind is None else And(kind, leaf)

    def following(self) -> str:
        return self.tokens[self.next + 1][0] if self.next + 1 < len(self.tokens) else ""

    def wanted(self) -> str:
        return "the port" if self.type.startswith("port") else "the address"

    def value(self, word: str) -> Node:
        place = self.next - 1
        if self.type == "port":
            port = self.port(word, place)
            return Port(self.side, port, port)
        if self.type == "portrange":
            low, dash, high = word.partition("-")
            if not dash:
                raise self.wrong("a range is LOW-HIGH", place)
            first, last = self.port(low, place), self.port(high, place)
            return Port(self.side, min(first, last), max(first, last))
        try:
            net = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise self.wrong(self.unknown(word), place) from None
        if self.type == "host" and "/" in word:
            raise self.wrong("a host has no prefix length; write net", place)
        return Address(self.side, net)

    def unknown(self, word: str) -> str:
        near = difflib.get_close_matches(word.lower(), _TYPES if self.side else WORDS, n=1)
        if near:
            return f"no condition {word!r}; did you mean {near[0]}?"
        if self.type or self.side:
            return f"{word!r} is no address (names are not looked up)"
        return f"no condition {word!r}; there are {', '.join(WORDS)}"

    def port(self, word: str, place: int) -> int:
        if word.isdecimal():
            if int(word) > 65535:
                raise self.wrong("ports end at 65535", place)
            return int(word)
        try:
            return socket.getservbyname(word)
        except (OSError, ValueError):
            raise self.wrong(f"no port or service {word!r}", place) from None

    def valued(self, word: str) -> Node:
        value = self.take(f"what follows {word}")
        place = self.next - 1
        try:
            if word == "dev":
                if len(value.encode()) > 15:
                    raise ValueError("device names have at most 15 bytes")
                return Device(value)
            if word == "netns":
                return Namespace(self.netns(value))
            if word == "reason":
                return self.reason(value)
            if word == "mark":
                number, _, mask = value.partition("/")
                return Mark(self.limited(number), self.limited(mask) if mask else 0xFFFFFFFF)
            if word == "less":
                return Length(0, self.limited(value))
            if word == "greater":
                return Length(self.limited(value), 0xFFFFFFFF)
            return self.proto(value)
        except FilterError:
            raise
        except ValueError as error:
            raise self.wrong(str(error), place) from None

    def limited(self, text: str) -> int:
        try:
            number = _number(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None
        if not 0 <= number <= 0xFFFFFFFF:
            raise ValueError("numbers go from 0 to 0xffffffff")
        return number

    def proto(self, value: str) -> Node:
        if value in _PROTOCOLS:
            return _PROTOCOLS[value]
        number = self.limited(value)
        if number > 255:
            raise ValueError("IP protocols end at 255")
        return Protocol(number)

    def reason(self, value: str) -> Node:
        name = value.upper().removeprefix("SKB_DROP_REASON_")
        if name in self.reasons:
            return Reason(self.reasons[name])
        if not self.reasons:
            raise ValueError("this kernel names no drop reasons (they begin with Linux 5.17)")
        near = difflib.get_close_matches(name, self.reasons, n=3)
        raise ValueError(
            f"this kernel has no drop reason {name}" + (f"; near: {', '.join(near)}" if near else "")
        )


def _no_namespaces(_text: str) -> int:
    raise ValueError("no namespace can be named here")


def parse(text: str, reasons: Mapping[str, int] | None = None, netns: Resolve = _no_namespaces) -> Node:
    """The tree of ``text``; the empty text lets everything pass.

    ``reasons`` gives the running kernel's numbers by name without prefix, ``netns`` turns a namespace's name into
    its inode. Raises :class:`FilterError`.
    """
    return _Parser(text, reasons or {}, netns).whole()
