"""Devices with their effective settings: link facts, addresses, and ``conf.all`` combined with ``conf.DEV``.

How the two combine differs by setting (include/linux/inetdevice.h): ``rp_filter`` takes the larger value, most
switches are true if either is, ``bc_forwarding`` and ``mc_forwarding`` need both, ``forwarding`` is the device's own.
"""

from __future__ import annotations

from deadhop.hops.linux.errors import Unknown
from deadhop.model import ip
from deadhop.model.net import Address, Link
from deadhop.model.netns import NetNamespace
from deadhop.model.record import Source

SCOPES = {"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}


def scope_number(text: str | None) -> int:
    if text is None:
        return 0
    return SCOPES[text] if text in SCOPES else int(text, 0) if text.isdigit() else 0


class Inet4:
    """One IPv4 address of a device, packed."""

    __slots__ = ("local", "network", "prefixlen", "scope", "secondary")

    def __init__(self, address: Address) -> None:
        self.local = ip.parse(address.local)[1]
        self.prefixlen = address.prefixlen
        peer = ip.parse(address.peer.partition("/")[0])[1] if address.peer else self.local
        self.network = peer & ip.mask(4, address.prefixlen)
        self.scope = scope_number(address.scope)
        self.secondary = "secondary" in address.flags

    def covers(self, packed: int) -> bool:
        return packed & ip.mask(4, self.prefixlen) == self.network


class Inet6:
    """One IPv6 address of a device, packed."""

    __slots__ = ("deprecated", "dev", "local", "prefixlen", "temporary", "usable")

    def __init__(self, address: Address) -> None:
        self.local = ip.parse(address.local)[1]
        self.prefixlen = address.prefixlen
        self.dev = address.ifname
        self.deprecated = "deprecated" in address.flags
        self.temporary = "temporary" in address.flags
        self.usable = not {"tentative", "dadfailed"} & set(address.flags) or "optimistic" in address.flags


class Setting:
    """The value of a setting and the sysctl lines it comes from; ``value`` is None where the evidence is silent."""

    __slots__ = ("name", "sources", "value")

    def __init__(self, name: str, value: int | None, sources: tuple[Source, ...]) -> None:
        self.name = name
        self.value = value
        self.sources = sources

    def need(self) -> int:
        if self.value is None:
            raise Unknown(f"sysctl {self.name}")
        return self.value


class Device:
    """A device as the forwarding path sees it."""

    __slots__ = (
        "accept_local", "bc_forwarding", "carrier", "disable_ipv6", "force_forwarding6", "forwarding", "forwarding6",
        "group", "ignore_linkdown", "ignore_linkdown6", "inet4", "inet6", "kind", "link", "log_martians", "loopback",
        "mc_forwarding", "mtu", "mtu6", "name", "route_localnet", "rp_filter", "send_redirects", "source",
        "src_valid_mark", "up", "use_oif_addrs_only", "vrf", "vrf_table",
    )  # fmt: skip

    def __init__(self, ns: NetNamespace, link: Link) -> None:
        self.link = link
        self.name = name = link.ifname
        self.source = link.source
        self.loopback = link.loopback or name == "lo"
        self.up = link.up
        self.carrier = link.carrier
        self.kind = link.kind
        self.group = link.group or "default"
        self.mtu = link.mtu
        self.vrf: str | None = None
        self.vrf_table = link.vrf_table if link.kind == "vrf" else None
        mine = [address for address in ns.addresses or () if address.ifname == name]
        self.inet4 = [Inet4(address) for address in mine if address.family == 4]
        self.inet6 = [Inet6(address) for address in mine if address.family == 6]
        conf = _Conf(ns, name)
        self.forwarding = conf.own("ipv4", "forwarding")
        self.rp_filter = conf.largest("rp_filter")
        self.accept_local = conf.either("accept_local")
        self.src_valid_mark = conf.either("src_valid_mark")
        self.route_localnet = conf.either("route_localnet")
        self.send_redirects = conf.either("send_redirects")
        self.log_martians = conf.either("log_martians")
        self.ignore_linkdown = conf.either("ignore_routes_with_linkdown")
        self.bc_forwarding = conf.both("bc_forwarding")
        self.mc_forwarding = conf.both("mc_forwarding")
        self.disable_ipv6 = conf.own("ipv6", "disable_ipv6")
        self.forwarding6 = conf.own("ipv6", "forwarding")
        self.force_forwarding6 = conf.own("ipv6", "force_forwarding")
        self.ignore_linkdown6 = conf.own("ipv6", "ignore_routes_with_linkdown")
        self.use_oif_addrs_only = conf.own("ipv6", "use_oif_addrs_only")
        own = conf.own("ipv6", "mtu").value
        self.mtu6 = own if own is not None else link.mtu

    def need_mtu(self) -> int:
        if self.mtu is None:
            raise Unknown(f"the MTU of {self.name}")
        return self.mtu


class _Conf:
    """Reads ``net.ipvN.conf.{all,DEV}.KEY``. In a whole listing an absent key is one that this kernel lacks: 0."""

    def __init__(self, ns: NetNamespace, dev: str) -> None:
        self.ns = ns
        self.dev = dev.replace(".", "/")

    def _get(self, version: str, scope: str, key: str) -> tuple[int | None, tuple[Source, ...]]:
        found = self.ns.sysctls.get(f"net.{version}.conf.{scope}.{key}")
        if found is None:
            return (0 if self.ns.sysctls_complete else None), ()
        try:
            return int(found.value), (found.source,)
        except ValueError:
            return None, (found.source,)

    def own(self, version: str, key: str) -> Setting:
        value, sources = self._get(version, self.dev, key)
        return Setting(f"net.{version}.conf.{self.dev}.{key}", value, sources)

    def _pair(self, key: str) -> tuple[int | None, int | None, tuple[Source, ...]]:
        every, first = self._get("ipv4", "all", key)
        own, second = self._get("ipv4", self.dev, key)
        return every, own, first + second

    def _name(self, key: str) -> str:
        return f"net.ipv4.conf.{{all,{self.dev}}}.{key}"

    def largest(self, key: str) -> Setting:
        every, own, sources = self._pair(key)
        known = [value for value in (every, own) if value is not None]
        value = max(known) if len(known) == 2 or known in ([2],) else None
        return Setting(self._name(key), value, sources)

    def either(self, key: str) -> Setting:
        every, own, sources = self._pair(key)
        value = 1 if every or own else None if every is None or own is None else 0
        return Setting(self._name(key), value, sources)

    def both(self, key: str) -> Setting:
        every, own, sources = self._pair(key)
        value = 0 if every == 0 or own == 0 else None if every is None or own is None else 1
        return Setting(self._name(key), value, sources)


def devices(ns: NetNamespace) -> dict[str, Device]:
    """All devices by name, each enslaved one knowing its VRF."""
    found = {link.ifname: Device(ns, link) for link in ns.links or ()}
    for device in found.values():
        master = found.get(device.link.master or "")
        if master is not None and master.kind == "vrf":
            device.vrf = master.name
    return found
