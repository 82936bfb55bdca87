"""A namespace compiled for walking: devices, tables, rules and netfilter hooks built once.

:func:`world_of` keeps the compiled form as long as its :class:`~deadhop.model.netns.NetNamespace` lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from deadhop.hops.linux.devices import Device, devices
from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.fib6 import Fib6
from deadhop.hops.linux.rules import Fib4
from deadhop.model import ip
from deadhop.model.net import NextHop, Route
from deadhop.model.netns import NetNamespace


class World:
    """The compiled namespace. Nothing in it changes after construction."""

    def __init__(self, ns: NetNamespace) -> None:
        self.ns = ns
        self.devices: dict[str, Device] = devices(ns)
        routes4, self.assumed4 = _with_local(ns, 4)
        routes6, self.assumed6 = _with_local(ns, 6)
        self.fib4 = Fib4(ns, self.devices, routes4)
        self.fib6 = Fib6(ns, self.devices, routes6)
        self.local4 = {address.local: d.name for d in self.devices.values() for address in d.inet4}
        self.local6 = {address.local: d.name for d in self.devices.values() for address in d.inet6}
        self.anycast6 = {ip.prefix(r.dst, 6)[0] for r in routes6 if r.type == "anycast"}
        #: Netfilter's hooks by (IP version, hook), compiled at the first packet that meets one.
        self.hooks: dict[tuple[int, str], list[Callable[[Any, Any, str], None]]] | None = None
        self.neighbours = {(n.dev, ip.parse(n.dst)): n for n in ns.neighbours or () if not n.proxy}

    def device(self, name: str) -> Device:
        """The device of that name; raises :class:`Unknown` where the evidence does not show it."""
        found = self.devices.get(name)
        if found is None:
            raise Unknown(f"device {name} (ip link)")
        return found

    def sysctl(self, key: str, absent: int | None = None) -> int:
        """A per-namespace switch. ``absent`` is its value in kernels that lack it, and in partial listings the
        kernel's default where it never matters enough to ask."""
        text = self.ns.sysctl(key)
        if text is None:
            if absent is not None:
                return absent
            raise Unknown(f"sysctl {key}")
        try:
            return int(text.split()[0])
        except (ValueError, IndexError):
            raise Unknown(f"sysctl {key}: value {text!r}") from None

    def loopback(self) -> Device | None:
        return next((device for device in self.devices.values() if device.loopback), None)


_WORLDS: WeakKeyDictionary[NetNamespace, World] = WeakKeyDictionary()


def world_of(ns: NetNamespace) -> World:
    """The compiled form of ``ns``, compiled at the first call."""
    found = _WORLDS.get(ns)
    if found is None:
        found = _WORLDS[ns] = World(ns)
    return found


def _with_local(ns: NetNamespace, version: int) -> tuple[tuple[Route, ...], str]:
    """The routes, with the local table derived from the addresses where a listing left it out (``ip route`` alone
    shows main). The second value says so."""
    routes = (ns.routes4 if version == 4 else ns.routes6) or ()
    covered = ns.route_tables4 if version == 4 else ns.route_tables6
    if covered is None or "local" in covered or not ns.addresses:
        return routes, ""
    derived: list[Route] = []
    for address in ns.addresses:
        if address.family != version:
            continue
        local = Route(
            source=address.source,
            family=version,
            dst=address.local,
            type="local",
            table="local",
            legs=(NextHop(dev=address.ifname),),
            scope="host",
            protocol="kernel",
        )
        derived.append(local)
        if version == 4 and address.broadcast:
            derived.append(replace(local, dst=address.broadcast, type="broadcast", scope="link"))
        if version == 4 and address.ifname == "lo" and address.prefixlen < 32:
            derived.append(replace(local, dst=f"{address.local}/{address.prefixlen}"))
    return (*routes, *derived), "the local table follows from the addresses"
