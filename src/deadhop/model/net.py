"""The state of one Linux network namespace, as records: what iproute2 and ``sysctl`` print.

Fields carry the names that iproute2's JSON gives them. ``None`` means that the evidence does not say, so that text
listings (``ip addr``, ``route -n``) yield the same structs as JSON. A :class:`Listing` says that a listing was seen
whole: without it, the absence of a record proves nothing.

:mod:`deadhop.model.netns` puts them together.
"""

from __future__ import annotations

from typing import Any

import msgspec

from deadhop.model.record import Record


class Listing(Record, frozen=True, kw_only=True):
    """The evidence holds the whole of ``what``: an absent object does not exist.

    ``what`` is one of ``links``, ``addresses``, ``routes4``, ``routes6``, ``rules4``, ``rules6``, ``neighbours``,
    ``nexthops``, ``sysctls``, ``nft``, ``iptables``, ``iptables-legacy``, ``conntrack``. ``tables`` names the routing
    tables that a route listing covers; empty means all of them.
    """

    what: str
    tables: tuple[str, ...] = ()


class Link(Record, frozen=True, kw_only=True):
    """A network device (``ip link``). ``mtu`` is in bytes; ``flags`` are the words in angle brackets."""

    ifname: str
    ifindex: int | None = None
    flags: tuple[str, ...] | None = None
    mtu: int | None = None
    operstate: str | None = None
    qdisc: str | None = None
    group: str | None = None
    link_type: str | None = None
    address: str | None = None
    kind: str | None = None
    master: str | None = None
    link: str | None = None
    link_netnsid: int | None = None
    vrf_table: str | None = None
    info: dict[str, Any] | None = None

    @property
    def up(self) -> bool:
        return self.flags is None or "UP" in self.flags

    @property
    def carrier(self) -> bool:
        """False where the evidence says that the link has no carrier."""
        if self.flags is None:
            return True
        return "NO-CARRIER" not in self.flags and ("LOWER_UP" in self.flags or "UP" not in self.flags)

    @property
    def loopback(self) -> bool:
        return self.link_type == "loopback" or (self.flags is not None and "LOOPBACK" in self.flags)


class Address(Record, frozen=True, kw_only=True):
    """An address of a device (``ip addr``). ``flags`` holds ``nodad``, ``deprecated``, ``tentative``, ``secondary``…"""

    ifname: str
    local: str
    prefixlen: int
    family: int
    scope: str | None = None
    broadcast: str | None = None
    peer: str | None = None
    label: str | None = None
    flags: tuple[str, ...] = ()


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """One leg of a route. ``flags`` holds ``onlink``, ``linkdown``, ``dead``…"""

    dev: str | None = None
    gateway: str | None = None
    weight: int = 1
    flags: tuple[str, ...] = ()
    encap: str | None = None


class Route(Record, frozen=True, kw_only=True):
    """A route (``ip route show table all``). ``mtu`` is the route's own metric in bytes.

    ``mtu_locked`` is None where the listing cannot show it: iproute2 6.1 omits ``lock`` from its JSON
    (specification "Linux forwarding" §4.10).
    """

    family: int
    dst: str
    type: str = "unicast"
    table: str = "main"
    legs: tuple[NextHop, ...] = ()
    metric: int | None = None
    tos: int = 0
    scope: str | None = None
    prefsrc: str | None = None
    protocol: str | None = None
    src: str | None = None
    mtu: int | None = None
    mtu_locked: bool | None = None
    nhid: int | None = None
    pref: str | None = None
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "" if self.type == "unicast" else f"{self.type} "
        text = f"{kind}{self.dst}"
        if self.src:
            text += f" from {self.src}"
        if self.tos:
            text += f" tos {self.tos:#04x}"
        for leg in self.legs:
            text += f" via {leg.gateway}" if leg.gateway else ""
            text += f" dev {leg.dev}" if leg.dev else ""
        text += f" table {self.table}"
        if self.metric:
            text += f" metric {self.metric}"
        return text + (f" mtu {self.mtu}" if self.mtu else "")


class Rule(Record, frozen=True, kw_only=True):
    """A policy rule (``ip rule``). Ports are inclusive ranges; ``action`` is ``lookup``, ``goto``, ``nop``,
    ``blackhole``, ``unreachable`` or ``prohibit``. ``unsupported`` names selectors that the reader saw and that this
    struct cannot hold: such a rule decides nothing without saying so."""

    family: int
    priority: int
    action: str = "lookup"
    table: str | None = None
    goto: int | None = None
    inverted: bool = False
    src: str = "all"
    dst: str = "all"
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    tos: int | None = None
    dscp: int | None = None
    ipproto: int | None = None
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uidrange: tuple[int, int] | None = None
    suppress_prefixlength: int | None = None
    suppress_ifgroup: str | None = None
    l3mdev: bool = False
    unsupported: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [f"{self.priority}:", "not" if self.inverted else "", f"from {self.src}"]
        if self.dst != "all":
            words.append(f"to {self.dst}")
        if self.tos:
            words.append(f"tos {self.tos:#04x}")
        if self.fwmark is not None:
            words.append(
                f"fwmark {self.fwmark:#x}" + (f"/{self.fwmask:#x}" if self.fwmask is not None else "")
            )
        words += [f"{key} {value}" for key, value in (("iif", self.iif), ("oif", self.oif)) if value]
        if self.ipproto is not None:
            words.append(f"ipproto {self.ipproto}")
        for key, span in (("sport", self.sport), ("dport", self.dport)):
            if span:
                words.append(f"{key} {span[0]}-{span[1]}")
        if self.action == "lookup":
            words.append(f"lookup {self.table}")
        else:
            words.append(self.action + (f" {self.goto}" if self.goto is not None else ""))
        if self.suppress_prefixlength is not None:
            words.append(f"suppress_prefixlength {self.suppress_prefixlength}")
        return " ".join(word for word in words if word)


class Neighbour(Record, frozen=True, kw_only=True):
    """A neighbour entry (``ip neigh``). ``state`` holds ``REACHABLE``, ``STALE``, ``FAILED``, ``PERMANENT``…"""

    dst: str
    dev: str
    lladdr: str | None = None
    state: tuple[str, ...] = ()
    proxy: bool = False


class NexthopObject(Record, frozen=True, kw_only=True):
    """A nexthop object (``ip nexthop``): a leg, a ``blackhole``, or a ``group`` of ``(id, weight)``."""

    id: int
    dev: str | None = None
    gateway: str | None = None
    blackhole: bool = False
    group: tuple[tuple[int, int], ...] = ()
    group_type: str | None = None
    flags: tuple[str, ...] = ()
    fdb: bool = False


class Sysctl(Record, frozen=True, kw_only=True):
    """One ``key = value`` of ``sysctl``, key with dots (``net.ipv4.conf.eth0/100.rp_filter`` for ``eth0.100``)."""

    key: str
    value: str


class KernelRelease(Record, frozen=True, kw_only=True):
    """``uname -r``."""

    release: str
