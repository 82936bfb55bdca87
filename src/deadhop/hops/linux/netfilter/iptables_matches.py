"""What an iptables rule asks of a packet, compiled from the words of ``iptables-save``.

An option that is not known here becomes an open question under its name: both answers are walked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deadhop.hops.linux.netfilter.fib_expression import fib
from deadhop.hops.linux.netfilter.values import ADDRTYPES, CT_STATES, CT_STATUS
from deadhop.hops.linux.packet import Packet
from deadhop.model import ip
from deadhop.model.protocols import ICMP, ICMP_TYPES, ICMPV6, ICMPV6_TYPES, PROTOCOLS, TCP, TCP_FLAGS

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

Test = Callable[[Packet, "HookState"], bool]

#: Modules whose options decide nothing for a single packet of a flow.
HARMLESS_MODULES = {"comment", "tcp", "udp", "icmp", "icmp6", "sctp", "multiport", "conntrack", "state", "mark", "connmark",
                    "addrtype", "limit", "length", "ttl", "hl", "dscp", "tos", "iprange", "physdev", "rpfilter", "statistic"}  # fmt: skip
#: Options with an argument that no test follows from.
IGNORED = {"--comment", "--limit", "--limit-burst", "-c"}


class _Words:
    """The words of a rule, taken from the front."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = list(words)

    def take(self) -> str:
        return self.words.pop(0) if self.words else ""


def compile_matches(args: tuple[str, ...], version: int) -> tuple[list[Test], list[str]]:
    """The tests of a rule, and the words from ``-j`` or ``-g`` on."""
    words = _Words(args)
    tests: list[Test] = []
    marks = "mark"
    while words.words:
        if words.words[0] in ("-j", "-g", "--jump", "--goto"):
            break
        inverted = words.words[0] == "!"
        if inverted:
            words.take()
        option = words.take()
        if words.words and words.words[0] == "!" and option in _OPTIONS:  # iptables 1.2: -s ! ADDRESS
            words.take()
            inverted = not inverted
        if option in ("-m", "--match"):
            module = words.take()
            marks = "ct_mark" if module == "connmark" else "mark" if module == "mark" else marks
            if module == "rpfilter":
                loose = "--loose" in words.words
                inverted = inverted or "--invert" in words.words
                words.words = [w for w in words.words if w not in ("--loose", "--invert")]
                tests.append(_rpfilter(loose, inverted))
            elif module not in HARMLESS_MODULES:
                tests.append(_open(f"iptables -m {module}"))
                while words.words and words.words[0] not in ("-m", "-j", "-g", "!"):
                    words.take()
            continue
        if option in IGNORED:
            words.take()
            continue
        make = _mark(marks) if option == "--mark" else _OPTIONS.get(option)
        try:
            test = make(words, version) if make else None
        except (ValueError, KeyError, IndexError):
            test = None
        if test is None:
            tests.append(_open(f"iptables {option}"))
            while (
                words.words
                and words.words[0] not in ("-m", "-j", "-g", "!")
                and words.words[0] not in _OPTIONS
            ):
                words.take()
        else:
            tests.append(_not(test) if inverted else test)
    return tests, words.words


def _not(test: Test) -> Test:
    return lambda p, s: not test(p, s)


def _open(what: str) -> Test:
    return lambda _p, s: s.walk.uncertain(what)


def _address(field: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, version: int) -> Test:
        spans = [ip.prefix(_cidr(text), version) for text in words.take().split(",")]
        masks = [(network, ip.mask(version, length)) for network, length in spans]
        return lambda p, _s: any(getattr(p, field) & mask == network for network, mask in masks)

    return make


def _cidr(text: str) -> str:
    """``10.0.0.0/255.0.0.0`` as ``10.0.0.0/8``."""
    head, slash, tail = text.partition("/")
    return f"{head}/{bin(ip.parse(tail)[1]).count('1')}" if slash and "." in tail else text


def _device(field: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        name = words.take()
        if name.endswith("+"):
            start = name[:-1]
            return lambda p, _s: (getattr(p, field) or "").startswith(start)
        return lambda p, _s: (getattr(p, field) or "") == name

    return make


def _protocol(words: _Words, _version: int) -> Test:
    text = words.take()
    if text == "all":
        return lambda _p, _s: True
    number = PROTOCOLS[text] if text in PROTOCOLS else int(text)
    return lambda p, _s: p.proto == number


def _spans(text: str) -> list[tuple[int, int]]:
    found = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        start = int(low or "0")
        found.append((start, int(high or "65535") if colon else start))
    return found


def _ports(*fields: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        spans = _spans(words.take())
        return lambda p, _s: (
            p.has_ports and any(low <= getattr(p, field) <= high for field in fields for low, high in spans)
        )

    return make


def _tcp_flags(words: _Words, _version: int) -> Test:
    mask, wanted = (_flag_bits(words.take()) for _ in range(2))
    return lambda p, _s: p.proto == TCP and p.tcp_flags & mask == wanted


def _flag_bits(text: str) -> int:
    if text in ("ALL", "NONE"):
        return 0x3F if text == "ALL" else 0
    return sum({TCP_FLAGS[name.lower()] for name in text.split(",")})


def _syn(_words: _Words, _version: int) -> Test:
    return lambda p, _s: p.proto == TCP and p.tcp_flags & 0x17 == 0x02


def _icmp(words: _Words, version: int) -> Test:
    text = words.take()
    proto, names = (ICMP, ICMP_TYPES) if version == 4 else (ICMPV6, ICMPV6_TYPES)
    if text in ("any", "255"):
        return lambda p, _s: p.proto == proto
    head, slash, code = text.partition("/")
    kind = names[head] if head in names else int(head)
    if slash:
        number = int(code)
        return lambda p, _s: p.proto == proto and p.icmp_type == kind and p.icmp_code == number
    return lambda p, _s: p.proto == proto and p.icmp_type == kind


def _ctstate(words: _Words, _version: int) -> Test:
    names = {name.lower() for name in words.take().split(",")}
    states = names & set(CT_STATES)
    status = sum(CT_STATUS[name] for name in names & {"snat", "dnat"})

    def test(p: Packet, s: HookState) -> bool:
        return (p.ct or "invalid") in states or bool(status and p.tracked and s.ct_status(p) & status)

    return test


def _ctstatus(words: _Words, _version: int) -> Test:
    bits = sum(
        CT_STATUS[{"seen_reply": "seen-reply"}.get(n.lower(), n.lower())] for n in words.take().split(",")
    )
    return lambda p, s: p.tracked and bool(s.ct_status(p) & bits)


def _mark(field: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        value, slash, mask_text = words.take().partition("/")
        mask = int(mask_text, 0) if slash else 0xFFFFFFFF
        wanted = int(value, 0)
        if field == "ct_mark":
            return lambda p, _s: p.tracked and p.ct_mark & mask == wanted
        return lambda p, _s: p.mark & mask == wanted

    return make


def _addrtype(flag: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        wanted = {ADDRTYPES[name.lower()] for name in words.take().split(",")}
        limit = {"--limit-iface-in": "iif", "--limit-iface-out": "oif"}
        flags = [flag]
        if words.words and words.words[0] in limit:
            flags.append(limit[words.take()])
        getter = fib({"result": "type", "flags": flags})[0]
        return lambda p, s: getter(p, s) in wanted

    return make


def _number(field: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        spans = _spans(words.take())
        return lambda p, _s: any(low <= getattr(p, field) <= high for low, high in spans)

    return make


def _compare_ttl(how: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        bound = int(words.take())
        if how == "eq":
            return lambda p, _s: p.ttl == bound
        return (lambda p, _s: p.ttl < bound) if how == "lt" else (lambda p, _s: p.ttl > bound)

    return make


def _dscp(words: _Words, _version: int) -> Test:
    value = int(words.take(), 0)
    return lambda p, _s: p.tos >> 2 == value


def _tos(words: _Words, _version: int) -> Test:
    value, slash, mask_text = words.take().partition("/")
    mask, wanted = (int(mask_text, 0) if slash else 0xFF), int(value, 0)
    return lambda p, _s: p.tos & mask == wanted


def _range(field: str) -> Callable[[_Words, int], Test]:
    def make(words: _Words, _version: int) -> Test:
        low, _, high = words.take().partition("-")
        start, end = ip.parse(low)[1], ip.parse(high or low)[1]
        return lambda p, _s: start <= getattr(p, field) <= end

    return make


def _physdev(words: _Words, _version: int) -> Test:
    """A packet that was not bridged has no physical devices."""
    if words.words and not words.words[0].startswith("-") and words.words[0] != "!":
        words.take()
    return lambda _p, _s: False


def _fragment(_words: _Words, _version: int) -> Test:
    return lambda p, _s: p.frag


def _rpfilter(loose: bool, inverted: bool) -> Test:
    getter = fib({"result": "oif", "flags": ["saddr", "mark"] if loose else ["saddr", "mark", "iif"]})[0]
    return lambda p, s: bool(getter(p, s)) != inverted


_OPTIONS: dict[str, Callable[[_Words, int], Test]] = {
    "-s": _address("src"), "--source": _address("src"), "-d": _address("dst"), "--destination": _address("dst"),
    "-i": _device("iif"), "--in-interface": _device("iif"), "-o": _device("oif"), "--out-interface": _device("oif"),
    "-p": _protocol, "--protocol": _protocol, "-f": _fragment,
    "--sport": _ports("sport"), "--source-port": _ports("sport"), "--sports": _ports("sport"),
    "--dport": _ports("dport"), "--destination-port": _ports("dport"), "--dports": _ports("dport"),
    "--ports": _ports("sport", "dport"), "--tcp-flags": _tcp_flags, "--syn": _syn,
    "--icmp-type": _icmp, "--icmpv6-type": _icmp, "--ctstate": _ctstate, "--state": _ctstate, "--ctstatus": _ctstatus,
    "--mark": _mark("mark"), "--dst-type": _addrtype("daddr"), "--src-type": _addrtype("saddr"),
    "--length": _number("length"), "--ttl-eq": _compare_ttl("eq"), "--ttl-lt": _compare_ttl("lt"),
    "--ttl-gt": _compare_ttl("gt"), "--hl-eq": _compare_ttl("eq"), "--hl-lt": _compare_ttl("lt"),
    "--hl-gt": _compare_ttl("gt"), "--dscp": _dscp, "--tos": _tos, "--src-range": _range("src"),
    "--dst-range": _range("dst"), "--physdev-in": _physdev, "--physdev-out": _physdev,
    "--physdev-is-bridged": _physdev, "--physdev-is-in": _physdev, "--physdev-is-out": _physdev,
}  # fmt: skip
