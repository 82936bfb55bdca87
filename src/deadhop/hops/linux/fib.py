"""The IPv4 FIB: one table's longest-prefix match (fib_table_lookup, fib_select_path in net/ipv4).

Within a prefix, aliases stand in the kernel's order: TOS descending, then metric ascending, then the order of
insertion. An alias whose TOS, scope or legs do not fit is passed over and the search backtracks to shorter prefixes
(specification "Linux forwarding" §4.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.hops.linux.devices import Device, scope_number
from deadhop.hops.linux.errors import EACCES, EAGAIN, EHOSTUNREACH, EINVAL, Unknown
from deadhop.model import ip
from deadhop.model.net import NextHop, NexthopObject, Route

#: fib_props[].error, by route type (net/ipv4/fib_semantics.c).
ERRORS = {
    "blackhole": EINVAL,
    "unreachable": EHOSTUNREACH,
    "prohibit": EACCES,
    "throw": EAGAIN,
    "nat": EINVAL,
}
#: The part of the DS field that a ``tos`` selector sees (IPTOS_TOS_MASK without the ECN bits).
TOS_MASK = 0x1C
SCOPE_LINK, SCOPE_HOST = 253, 254


class Leg:
    """A next hop, compiled. ``gateway`` is packed with its IP version, None where the destination is on the link."""

    __slots__ = ("dev", "flags", "gateway", "ignored", "scope", "text", "usable")

    def __init__(self, hop: NextHop, route: Route, devices: dict[str, Device]) -> None:
        self.dev = hop.dev or ("lo" if route.type == "local" else "")
        self.gateway = ip.parse(hop.gateway) if hop.gateway else None
        self.text = hop.gateway or ""
        self.flags = {*hop.flags, *route.flags}
        self.usable = "dead" not in self.flags
        device = devices.get(self.dev)
        linkdown = "linkdown" in self.flags
        self.ignored = device.ignore_linkdown if linkdown and device else None
        # nhc_scope is where the gateway lies (fib_check_nh): on the link, or the host itself without a gateway.
        if self.gateway is not None:
            self.scope = SCOPE_LINK
        else:
            self.scope = (
                SCOPE_HOST if route.type == "local" or scope_number(route.scope) < SCOPE_HOST else 255
            )

    def alive(self) -> bool:
        """fib_lookup_good_nhc without the device check."""
        return self.usable and not (self.ignored is not None and self.ignored.need())


class Alias:
    """A route in its table (struct fib_alias), compiled."""

    __slots__ = (
        "blackhole", "error", "legs", "length", "metric", "mtu", "mtu_locked", "network", "position", "prefsrc",
        "route", "scope", "table", "text", "tos", "type", "unresolved",
    )  # fmt: skip

    def __init__(self, route: Route, position: int, devices: dict[str, Device], objects: Objects) -> None:
        self.route = route
        self.network, self.length = ip.prefix(route.dst, route.family)
        self.type = route.type
        self.table = route.table
        self.error = ERRORS.get(route.type, 0)
        self.tos = route.tos
        self.metric = route.metric or 0
        self.position = position
        self.scope = scope_number(route.scope)
        self.mtu = route.mtu
        self.mtu_locked = bool(route.mtu_locked)
        self.prefsrc = ip.parse(route.prefsrc)[1] if route.prefsrc else None
        self.text = str(route)
        self.blackhole = False
        self.unresolved = ""
        hops = list(route.legs)
        if route.nhid is not None and not hops:
            found = objects.resolve(route.nhid)
            self.blackhole = found == "blackhole"
            if found is None:
                self.unresolved = f"nexthop object {route.nhid} (ip nexthop)"
            elif isinstance(found, list):
                hops = found
        self.legs = [Leg(hop, route, devices) for hop in hops]

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Sorting key among the aliases of one prefix; a merged trie puts local before main."""
        return (0 if self.table == "local" else 1, -self.tos, self.metric, self.position)


class Objects:
    """Nexthop objects by id. ``known`` is False where no listing shows them."""

    def __init__(self, objects: Iterable[NexthopObject] | None) -> None:
        self.by_id = {item.id: item for item in objects or ()}

    def resolve(self, nhid: int) -> list[NextHop] | str | None:
        """The legs behind an id, ``"blackhole"``, or None where the evidence does not show the object."""
        item = self.by_id.get(nhid)
        if item is None:
            return None
        if item.blackhole:
            return "blackhole"
        if not item.group:
            return [NextHop(dev=item.dev, gateway=item.gateway, flags=item.flags)]
        legs: list[NextHop] = []
        for member, weight in item.group:
            one = self.by_id.get(member)
            if one is None or one.group:
                return None
            if one.blackhole:
                return "blackhole"
            legs.append(NextHop(dev=one.dev, gateway=one.gateway, weight=weight, flags=one.flags))
        return legs


class Found:
    """The outcome of a lookup: ``error`` 0 with the alias and its first fitting leg, or the errno that ended it."""

    __slots__ = ("alias", "by", "error", "leg")

    def __init__(self, error: int, alias: Alias | None = None, leg: Leg | None = None) -> None:
        self.error = error
        self.alias = alias
        self.leg = leg
        self.by: object | None = None


MISS = Found(EAGAIN)


class Table:
    """One routing table, or local and main merged as the kernel keeps them before the first custom rule (§4.9)."""

    def __init__(self, aliases: Iterable[Alias]) -> None:
        by_length: dict[int, dict[int, list[Alias]]] = {}
        self.aliases = list(aliases)
        for alias in self.aliases:
            shift = 32 - alias.length
            by_length.setdefault(alias.length, {}).setdefault(alias.network >> shift, []).append(alias)
        for group in by_length.values():
            for members in group.values():
                members.sort(key=lambda alias: alias.order)
        self.levels = [(32 - length, by_length[length]) for length in sorted(by_length, reverse=True)]

    def lookup(self, dst: int, tos: int, oif: str | None = None, *, ignore_linkstate: bool = False) -> Found:
        """fib_table_lookup. ``tos`` is the flow's whole TOS byte; ``oif`` restricts the legs."""
        for shift, group in self.levels:
            members = group.get(dst >> shift)
            if members is None:
                continue
            for alias in members:
                if alias.tos and alias.tos != tos & TOS_MASK:
                    continue
                if alias.error:
                    return Found(alias.error, alias)
                if alias.unresolved:
                    raise Unknown(alias.unresolved)
                if alias.blackhole:
                    return Found(EINVAL, alias)
                for leg in alias.legs:
                    if not (leg.usable if ignore_linkstate else leg.alive()):
                        continue
                    if oif is not None and leg.dev != oif:
                        continue
                    return Found(0, alias, leg)
        return MISS

    def default_siblings(self, found: Alias, tos: int) -> list[Alias]:
        """The default routes that fib_select_default may put in the place of ``found``.

        It walks the aliases of 0.0.0.0/0 behind the one that matched as long as the metric does not grow, and
        takes one whose gateway's neighbour is alive.
        """
        if found.length or found.type != "unicast":
            return [found]
        members = [
            alias
            for shift, group in self.levels
            if shift == 32
            for alias in group.get(0, ())
            if not alias.tos or alias.tos == tos & TOS_MASK
        ]
        if len(members) < 2:
            return [found]
        picked: list[Alias] = []
        for alias in members[members.index(found) :]:
            if alias.metric > found.metric:
                break
            if alias.scope != found.scope or alias.type != "unicast" or alias.table != found.table:
                continue
            if not alias.legs or alias.legs[0].gateway is None:
                continue
            if not picked and alias is not found:
                break
            picked.append(alias)
        return picked or [found]
