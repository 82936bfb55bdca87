"""What an iptables rule does: targets compiled from the words behind ``-j``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.netfilter import nat, reject
from deadhop.hops.linux.netfilter.verdicts import (
    ACCEPT,
    DROP,
    NEXT,
    RETURN,
    STOP,
    Operation,
    Rejected,
    Verdict,
)
from deadhop.hops.linux.packet import Packet
from deadhop.model import ip
from deadhop.model.protocols import UNREACHABLE_CODES, UNREACHABLE_CODES6

if TYPE_CHECKING:
    from deadhop.hops.linux.netfilter.state import HookState

#: Targets that let the packet go on as it was, for all that routing and filtering see.
HARMLESS = {
    "LOG", "NFLOG", "ULOG", "TRACE", "CLASSIFY", "TCPMSS", "CHECKSUM", "AUDIT", "RATEEST", "LED", "SET", "CONNSECMARK",
    "SECMARK", "TEE", "TPROXY", "HMARK", "TCPOPTSTRIP", "ECN", "IDLETIMER",
}  # fmt: skip
TERMINAL = {"ACCEPT", "DROP", "RETURN", "REJECT"}
ALL = 0xFFFFFFFF


def compile_target(name: str, words: list[str], version: int) -> Operation:
    """The operation of a target. An unknown one makes the walk unknown and names it."""
    options = _options(words)
    simple = {"ACCEPT": ACCEPT, "DROP": DROP, "RETURN": RETURN}.get(name)
    if simple is not None:
        result = simple
        return lambda _p, _s: result
    if name in HARMLESS:
        return lambda _p, _s: NEXT
    try:
        if name == "REJECT":
            return _reject(options.get("--reject-with", ""), version)
        if name == "MARK":
            return _mark(options)
        if name == "CONNMARK":
            return _connmark(options)
        if name in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"):
            return _nat(name, options, version)
        if name == "NOTRACK" or (name == "CT" and "--notrack" in options):
            return _notrack
        if name == "CT":
            return lambda _p, _s: NEXT
        if name in ("DSCP", "TOS", "TTL", "HL"):
            return _header(name, options)
    except (ValueError, KeyError, IndexError):
        pass

    def unknown(_p: Packet, _s: HookState) -> Verdict:
        raise Unknown(f"iptables -j {' '.join([name, *words])}")

    return unknown


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            value = words[place + 1] if place + 1 < len(words) else ""
            found[word] = "" if value.startswith("--") else value
    return found


def _reject(how: str, version: int) -> Operation:
    if how == "tcp-reset":
        return lambda p, s: Rejected(None, reject.reset(s.walk, p))
    names = UNREACHABLE_CODES if version == 4 else UNREACHABLE_CODES6
    short = how.removeprefix("icmp6-").removeprefix("icmp-") or "port-unreachable"
    code = {"no-route": 0, "adm-prohibited": 1, "addr-unreachable": 3}.get(short) if version == 6 else None
    code = names[short] if code is None else code
    return lambda p, s: Rejected(reject.unreachable(s.walk, p, code), False)


def _masked(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if slash else ALL


def _mark(options: dict[str, str]) -> Operation:
    """xt_MARK keeps two numbers: mark = (mark & ~mask) ^ value."""
    if "--set-xmark" in options or "--set-mark" in options:
        plain = "--set-mark" in options
        value, mask = _masked(options["--set-mark" if plain else "--set-xmark"])
        mask = value | mask if plain else mask
    elif "--and-mark" in options:
        value, mask = 0, ~int(options["--and-mark"], 0) & ALL
    elif "--or-mark" in options:
        value = mask = int(options["--or-mark"], 0)
    else:
        value, mask = int(options["--xor-mark"], 0), 0

    def operation(p: Packet, _s: HookState) -> Verdict:
        p.mark = p.mark & ~mask & ALL ^ value
        return NEXT

    return operation


def _connmark(options: dict[str, str]) -> Operation:
    save, restore = "--save-mark" in options, "--restore-mark" in options
    value, mask = (0, ALL)
    near = int(options.get("--nfmask") or options.get("--mask") or "0xffffffff", 0)
    far = int(options.get("--ctmask") or options.get("--mask") or "0xffffffff", 0)
    if not save and not restore:
        plain = "--set-mark" in options
        value, mask = _masked(options["--set-mark" if plain else "--set-xmark"])
        mask = value | mask if plain else mask

    def operation(p: Packet, _s: HookState) -> Verdict:
        if not p.tracked:
            return NEXT
        if save:
            p.ct_mark = p.ct_mark & ~far & ALL ^ p.mark & near
        elif restore:
            p.mark = p.mark & ~near & ALL ^ p.ct_mark & far
        else:
            p.ct_mark = p.ct_mark & ~mask & ALL ^ value
        return NEXT

    return operation


def _notrack(p: Packet, _s: HookState) -> Verdict:
    if p.ct is None:
        p.ct = "untracked"
    return NEXT


def _header(name: str, options: dict[str, str]) -> Operation:
    (option, text), *_ = options.items()
    if name == "DSCP":
        value = int(text, 0)

        def dscp(p: Packet, _s: HookState) -> Verdict:
            p.tos = value << 2 | p.tos & 3
            return NEXT

        return dscp
    if name == "TOS":
        value, mask = _masked(text)
        mask = mask & 0xFF

        def tos(p: Packet, _s: HookState) -> Verdict:
            p.tos = p.tos & ~mask & 0xFF ^ value
            return NEXT

        return tos
    value = int(text)
    step = {"-set": 0, "-inc": 1, "-dec": -1}[option[-4:]]

    def ttl(p: Packet, _s: HookState) -> Verdict:
        p.ttl = value if not step else max(0, min(255, p.ttl + step * value))
        return NEXT

    return ttl


def _nat(name: str, options: dict[str, str], version: int) -> Operation:
    manip = "src" if name in ("SNAT", "MASQUERADE") else "dst"
    to = options.get({"DNAT": "--to-destination", "SNAT": "--to-source"}.get(name, ""), "")
    addresses, ports = _target(to, version)
    ports = options.get("--to-ports", ports)
    network = options.get("--to", "")

    def operation(p: Packet, s: HookState) -> Verdict:
        new: int | None = None
        if name == "MASQUERADE":
            new = nat.masquerade_source(p, s)
        elif name == "REDIRECT":
            new = nat.redirect_target(p, s)
        elif name == "NETMAP":
            end = "dst" if s.hook in ("prerouting", "output") else "src"
            net, length = ip.prefix(network, version)
            mask = ip.mask(version, length)
            nat.settle(p, end, net | getattr(p, end) & ~mask, None)
            return ACCEPT
        elif addresses:
            low, dash, high = addresses.partition("-")
            new = ip.parse(low)[1]
            if dash and low != high:
                s.walk.assume(f"{name} to one of {addresses}, taken as {low}")
        if new == 0:
            return DROP
        port = int(ports.partition("-")[0]) if ports and p.has_ports else None
        if not to and name in ("DNAT", "SNAT"):
            return STOP
        nat.settle(p, manip, new, port)
        return ACCEPT

    return operation


def _target(text: str, version: int) -> tuple[str, str]:
    """``(addresses, ports)`` of ``10.0.0.1-10.0.0.9:80-90``, ``[fd00::1]:80``, ``:80``."""
    if version == 6:
        if text.startswith("["):
            head, _, tail = text[1:].partition("]")
            return head, tail.lstrip(":").split("/")[0]
        return text, ""
    head, _, tail = text.partition(":")
    return head, tail.split("/")[0]
