"""The MTU of a route (ip_dst_mtu_maybe_forward, ip6_dst_mtu_maybe_forward; specification "Linux forwarding" §7.3)."""

from __future__ import annotations

from deadhop.hops.linux.devices import Device
from deadhop.hops.linux.errors import Unknown
from deadhop.hops.linux.fib import Alias, Leg

IP_MAX_MTU = 0xFFFF
IPV6_MIN_MTU = 1280
#: What a bogus PMTU behind a gateway is held to (ip_mtu_locked).
LOCKED_GATEWAY_MTU = 576


def route_mtu4(alias: Alias | None, leg: Leg | None, device: Device) -> tuple[int, str]:
    """The MTU of an IPv4 route and the object that sets it. A forwarding node honours the route's ``mtu`` too."""
    if leg is not None and leg.text and "encap" in leg.flags:
        raise Unknown("headroom of a lightweight tunnel")
    if alias is not None and alias.mtu:
        return min(alias.mtu, IP_MAX_MTU), f"route mtu {alias.mtu}"
    mtu = device.need_mtu()
    if alias is not None and alias.mtu_locked and leg is not None and leg.gateway is not None:
        mtu = min(mtu, LOCKED_GATEWAY_MTU)
    return min(mtu, IP_MAX_MTU), f"device {device.name} mtu {mtu}"


def route_mtu6(alias: Alias | None, device: Device, *, forwarding: bool) -> tuple[int, str]:
    """The MTU of an IPv6 route: a forwarding node looks at the device alone unless the route's ``mtu`` is locked."""
    if alias is not None and alias.mtu and (alias.mtu_locked or not forwarding):
        return alias.mtu, f"route mtu {alias.mtu}"
    mtu = device.mtu6
    if mtu is None:
        raise Unknown(f"the IPv6 MTU of {device.name}")
    return (max(mtu, IPV6_MIN_MTU) if forwarding else mtu), f"device {device.name} mtu {mtu}"
