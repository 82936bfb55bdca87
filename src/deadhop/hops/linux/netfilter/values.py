"""Values that nftables compares: types of expressions, constants of a type, and values that nobody can know."""

from __future__ import annotations

from typing import Any

from deadhop.model import ip
from deadhop.model.protocols import (
    DSCP,
    ECN,
    ICMP_TYPES,
    ICMPV6_TYPES,
    PROTOCOLS,
    TCP_FLAGS,
    UNREACHABLE_CODES,
    UNREACHABLE_CODES6,
)

CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUS = {
    "expected": 1,
    "seen-reply": 2,
    "assured": 4,
    "confirmed": 8,
    "snat": 16,
    "dnat": 32,
    "dying": 512,
}
CT_DIRECTIONS = {"original": 0, "reply": 1}
#: RTN_*: the types of addresses that ``fib … type`` tells.
ADDRTYPES = {
    "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
    "unreachable": 7, "prohibit": 8, "throw": 9, "nat": 10,
}  # fmt: skip
PKTTYPES = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}
NFPROTO = {"inet": 1, "ipv4": 2, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ipv6": 10, "ip6": 10}
ETHER_TYPES = {"ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8}

#: Names of constants by type. A type without an entry has numbers alone.
NAMES: dict[str, dict[str, int]] = {
    "inet_proto": PROTOCOLS, "dscp": DSCP, "ecn": ECN, "icmp_type": ICMP_TYPES, "icmpv6_type": ICMPV6_TYPES,
    "icmp_code": UNREACHABLE_CODES, "icmpv6_code": UNREACHABLE_CODES6, "tcp_flag": TCP_FLAGS,
    "ct_state": CT_STATES, "ct_status": CT_STATUS, "ct_dir": CT_DIRECTIONS, "fib_addrtype": ADDRTYPES,
    "pkt_type": PKTTYPES, "nf_proto": NFPROTO, "ether_type": ETHER_TYPES, "boolean": {"exists": 1, "missing": 0},
    "iface_index": {}, "devgroup": {"default": 0},
}  # fmt: skip


class Unsupported(Exception):
    """An expression that this model cannot evaluate; the message names it."""


class Vague:
    """A value that a flow does not determine (a checksum, a random number). ``options`` bounds a random one."""

    __slots__ = ("options", "what")

    def __init__(self, what: str, options: tuple[int, ...] = ()) -> None:
        self.what = what
        self.options = options


#: The :class:`Vague` of which a guess is good: it equals no given number by chance.
CHECKSUM = "a checksum"
#: What an expression yields where the packet has no such field: the rule does not match (NFT_BREAK).
BREAK = None


def constant(value: Any, kind: str) -> Any:
    """A JSON constant as a value of type ``kind``: an int, or a str for interface names."""
    if kind == "ifname":
        return str(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, dict) and "|" in value:
        return flags(value["|"], kind)
    if not isinstance(value, str):
        raise Unsupported(f"constant {str(value)[:80]}")
    if kind in ("ipv4_addr", "ipv6_addr"):
        try:
            return ip.parse(value)[1]
        except ValueError:
            raise Unsupported(f"address {value!r}") from None
    if kind == "iface_index":
        return value  # interfaces are compared by name: listings print names
    names = NAMES.get(kind, {})
    if value in names:
        return names[value]
    if kind == "ether_addr":
        return int(value.replace(":", ""), 16)
    try:
        return int(value, 0)
    except ValueError:
        raise Unsupported(f"{kind} {value!r}") from None


def flags(values: Any, kind: str) -> int:
    """The bits of a list of flag names."""
    total = 0
    for each in values if isinstance(values, list) else [values]:
        total |= constant(each, kind)
    return total
