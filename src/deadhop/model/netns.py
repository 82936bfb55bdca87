"""One Linux network namespace, assembled from records: a value.

A changed world is a new namespace made by its ``with_…``/``without_…`` methods, which is how a fix is proven. What the
records do not say stays unknown: :meth:`NetNamespace.unknown` names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from deadhop.model.net import (
    Address,
    KernelRelease,
    Link,
    Listing,
    Neighbour,
    NexthopObject,
    Route,
    Rule,
    Sysctl,
)
from deadhop.model.netfilter import ConntrackEntry, IptablesTable, NftRuleset
from deadhop.model.record import Record


class NetNamespace(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """One namespace. A field that is None was not in the evidence: unknown, not empty and not default.

    ``route_tables`` names the tables that the route listings cover, per IP version; None means all.
    ``sysctls_complete`` says that an absent key does not exist. ``assumed`` lists what was taken for granted, in
    words for a report (:meth:`assuming_defaults`). Namespaces compare by identity.
    """

    name: str = ""
    kernel: str | None = None
    links: tuple[Link, ...] | None = None
    addresses: tuple[Address, ...] | None = None
    routes4: tuple[Route, ...] | None = None
    routes6: tuple[Route, ...] | None = None
    route_tables4: frozenset[str] | None = None
    route_tables6: frozenset[str] | None = None
    rules4: tuple[Rule, ...] | None = None
    rules6: tuple[Rule, ...] | None = None
    neighbours: tuple[Neighbour, ...] | None = None
    nexthops: tuple[NexthopObject, ...] | None = None
    sysctls: dict[str, Sysctl] = msgspec.field(default_factory=dict)
    sysctls_complete: bool = False
    nft: NftRuleset | None = None
    iptables: tuple[IptablesTable, ...] | None = None
    conntrack: tuple[ConntrackEntry, ...] | None = None
    assumed: tuple[str, ...] = ()

    # -- asking ------------------------------------------------------------------------------------------------

    def link(self, ifname: str) -> Link | None:
        return next((link for link in self.links or () if link.ifname == ifname), None)

    def sysctl(self, key: str) -> str | None:
        found = self.sysctls.get(key)
        return found.value if found else None

    def unknown(self) -> tuple[str, ...]:
        """What the evidence for this namespace lacks, in words for a report."""
        lacks = [
            words
            for words, value in (
                ("links (ip link)", self.links),
                ("addresses (ip addr)", self.addresses),
                ("IPv4 routes (ip route show table all)", self.routes4),
                ("IPv6 routes (ip -6 route show table all)", self.routes6),
                ("IPv4 rules (ip rule)", self.rules4),
                ("IPv6 rules (ip -6 rule)", self.rules6),
                ("neighbours (ip neigh)", self.neighbours),
            )
            if value is None
        ]
        if not self.sysctls_complete:
            lacks.append("sysctls (sysctl -a)")
        if self.nft is None and self.iptables is None:
            lacks.append("netfilter rules (nft list ruleset, iptables-save)")
        return tuple(lacks)

    # -- changing ----------------------------------------------------------------------------------------------

    def replace(self, **fields: Any) -> NetNamespace:
        """This namespace with other fields; everything else is shared."""
        return msgspec.structs.replace(self, **fields)

    def with_sysctl(self, key: str, value: str | int) -> NetNamespace:
        """``sysctl -w key=value``. A write to ``net.ipv4.ip_forward`` or ``conf.all.forwarding`` rewrites every
        device's ``forwarding``, as the kernel does (inet_forward_change, addrconf_fixup_forwarding)."""
        new = dict(self.sysctls)
        text = str(value)
        new[key] = Sysctl(key=key, value=text)
        version = key.split(".")[1] if key.count(".") else ""
        if key in ("net.ipv4.ip_forward", f"net.{version}.conf.all.forwarding"):
            spread = [k for k in new if k.startswith(f"net.{version}.conf.") and k.endswith(".forwarding")]
            spread += ["net.ipv4.ip_forward"] if version == "ipv4" else []
            for other in spread:
                new[other] = Sysctl(key=other, value=text)
        return self.replace(sysctls=new)

    def with_mtu(self, ifname: str, mtu: int) -> NetNamespace:
        """``ip link set dev ifname mtu mtu``; IPv6's own limit follows the device (addrconf_notify)."""
        links = tuple(
            msgspec.structs.replace(link, mtu=mtu) if link.ifname == ifname else link
            for link in self.links or ()
        )
        key = f"net.ipv6.conf.{ifname.replace('.', '/')}.mtu"
        changed = self.replace(links=links)
        return changed.with_sysctl(key, mtu) if key in self.sysctls else changed

    def with_route(self, route: Route) -> NetNamespace:
        """``ip route append``: the route comes after the others of its table."""
        if route.family == 4:
            return self.replace(routes4=(*(self.routes4 or ()), route))
        return self.replace(routes6=(*(self.routes6 or ()), route))

    def without_route(self, route: Route) -> NetNamespace:
        """``ip route del``. Raises :class:`ValueError` where there is no such route."""
        routes = list((self.routes4 if route.family == 4 else self.routes6) or ())
        routes.remove(route)
        return self.replace(**{f"routes{route.family}": tuple(routes)})

    def with_rule(self, rule: Rule) -> NetNamespace:
        """``ip rule add``: after the rules of the same priority."""
        rules = sorted(
            (*((self.rules4 if rule.family == 4 else self.rules6) or ()), rule), key=lambda r: r.priority
        )
        return self.replace(**{f"rules{rule.family}": tuple(rules)})

    def without_rule(self, rule: Rule) -> NetNamespace:
        """``ip rule del``. Raises :class:`ValueError` where there is no such rule."""
        rules = list((self.rules4 if rule.family == 4 else self.rules6) or ())
        rules.remove(rule)
        return self.replace(**{f"rules{rule.family}": tuple(rules)})

    def with_nft(self, nft: NftRuleset) -> NetNamespace:
        return self.replace(nft=nft)

    def assuming_defaults(self) -> NetNamespace:
        """The namespace with the kernel's defaults where the evidence is silent, each named in ``assumed``.

        Rules become the three (IPv6: two) built-in ones and netfilter becomes empty. Sysctls are left alone: their
        defaults differ by distribution, so the walk asks for the ones it needs.
        """
        fields: dict[str, Any] = {}
        said = list(self.assumed)
        for version, key in ((4, "rules4"), (6, "rules6")):
            if getattr(self, key) is None:
                fields[key] = default_rules(version)
                said.append(f"no IPv{version} policy rules beyond the built-in ones")
        if self.nft is None and self.iptables is None:
            fields["nft"] = NftRuleset()
            said.append("no netfilter rules")
        return self.replace(**fields, assumed=tuple(said)) if fields else self


def default_rules(version: int) -> tuple[Rule, ...]:
    """The rules that the kernel makes for a new namespace (fib_default_rules_init, fib6_rules_net_init)."""
    rules = [
        Rule(family=version, priority=0, table="local"),
        Rule(family=version, priority=32766, table="main"),
    ]
    return (*rules, Rule(family=4, priority=32767, table="default")) if version == 4 else tuple(rules)


def assemble(records: Iterable[Record], name: str = "") -> NetNamespace:
    """The namespace that ``records`` describe. The last record about an object wins; order is kept.

    A collection becomes known by its :class:`Listing` or by any record of its kind; ``sysctls_complete`` and the
    covered routing tables come from listings alone.
    """
    links: dict[str, Link] = {}
    addresses: list[Address] = []
    routes: dict[int, list[Route]] = {4: [], 6: []}
    rules: dict[int, list[Rule]] = {4: [], 6: []}
    neighbours: list[Neighbour] = []
    nexthops: list[NexthopObject] = []
    sysctls: dict[str, Sysctl] = {}
    iptables: list[IptablesTable] = []
    conntrack: list[ConntrackEntry] = []
    nft: NftRuleset | None = None
    kernel: str | None = None
    listed: dict[str, set[str] | None] = {}
    for record in records:
        match record:
            case Listing():
                if record.tables and listed.get(record.what, set()) is not None:
                    listed[record.what] = {*(listed.get(record.what) or ()), *record.tables}
                else:
                    listed[record.what] = None
            case Link():
                links[record.ifname] = _merged(links.get(record.ifname), record)
            case Address():
                addresses.append(record)
            case Route():
                routes[record.family].append(record)
            case Rule():
                rules[record.family].append(record)
            case Neighbour():
                neighbours.append(record)
            case NexthopObject():
                nexthops.append(record)
            case Sysctl():
                sysctls[record.key] = record
            case NftRuleset():
                nft = record
            case IptablesTable():
                iptables.append(record)
            case ConntrackEntry():
                conntrack.append(record)
            case KernelRelease():
                kernel = record.release
            case _:
                continue

    def known(what: str, values: Iterable[Any]) -> tuple[Any, ...] | None:
        found = tuple(values)
        return found if found or what in listed else None

    def tables(version: int) -> frozenset[str] | None:
        what = f"routes{version}"
        if what in listed:
            covered = listed[what]
            return frozenset(covered) if covered else None
        return frozenset(route.table for route in routes[version])

    if nft is None and "nft" in listed:
        nft = NftRuleset()
    shows_iptables = "iptables" in listed or "iptables-legacy" in listed
    return NetNamespace(
        name=name,
        kernel=kernel,
        links=known("links", links.values()),
        addresses=known("addresses", addresses),
        routes4=known("routes4", routes[4]),
        routes6=known("routes6", routes[6]),
        route_tables4=tables(4),
        route_tables6=tables(6),
        rules4=known("rules4", sorted(rules[4], key=lambda r: r.priority)),
        rules6=known("rules6", sorted(rules[6], key=lambda r: r.priority)),
        neighbours=known("neighbours", neighbours),
        nexthops=known("nexthops", nexthops),
        sysctls=sysctls,
        sysctls_complete="sysctls" in listed,
        nft=nft,
        iptables=tuple(iptables) if iptables or shows_iptables else None,
        conntrack=known("conntrack", conntrack),
    )


def _merged(old: Link | None, new: Link) -> Link:
    """``new`` with the facts of ``old`` that it does not say (``ip addr`` and ``ip link`` overlap)."""
    if old is None:
        return new
    fill = {field: getattr(old, field) for field in Link.__struct_fields__ if getattr(new, field) is None}
    return msgspec.structs.replace(new, **fill)
