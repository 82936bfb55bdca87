"""Choosing a source address: inet_select_addr (IPv4), ipv6_dev_get_saddr (IPv6, RFC 6724)."""

from __future__ import annotations

from functools import lru_cache

from deadhop.hops.linux.devices import Device, Inet6
from deadhop.hops.linux.world import World
from deadhop.model import ip

#: net/ipv6/addrlabel.c, ip6addrlbl_init_table: prefix, length, label.
LABELS = tuple(
    (*ip.prefix(text, 6), label)
    for text, label in (
        ("::1/128", 0), ("fc00::/7", 5), ("fec0::/10", 11), ("2002::/16", 2), ("3ffe::/16", 12), ("2001::/32", 6),
        ("2001:10::/28", 7), ("::ffff:0:0/96", 4), ("::/96", 3), ("::/0", 1),
    )
)  # fmt: skip
LINK_LOCAL, SITE_LOCAL, GLOBAL = 2, 5, 14


def select4(world: World, device: Device | None, dst: int, scope: int = 0) -> int:
    """The primary address of ``device`` in ``dst``'s subnet, else its first, else the first of any device; 0: none."""
    first = 0
    for address in device.inet4 if device else ():
        if address.secondary or address.scope > scope:
            continue
        if not dst or address.covers(dst):
            return address.local
        first = first or address.local
    if first:
        return first
    for other in world.devices.values():
        for address in other.inet4:
            if not address.secondary and address.scope != 253 and address.scope <= scope:
                return address.local
    return 0


def scope6(address: int) -> int:
    """The scope of an address as a number (ipv6_addr_src_scope)."""
    if address >> 120 == 0xFF:
        return (address >> 112) & 0xF
    if address >> 118 == 0x3FA or address == 1:  # fe80::/10, ::1
        return LINK_LOCAL
    if address >> 118 == 0x3FB:
        return SITE_LOCAL
    return GLOBAL


@lru_cache(maxsize=65536)
def label6(address: int) -> int:
    """The policy label of an address: that of the longest matching prefix."""
    best, found = -1, 1
    for network, length, label in LABELS:
        if length > best and address & ip.mask(6, length) == network:
            best, found = length, label
    return found


def _rank(candidate: Inet6, device: Device | None, dst: int, scope: int) -> tuple[int, ...]:
    mine = scope6(candidate.local)
    common = 128 - (candidate.local ^ dst).bit_length()
    return (
        candidate.local == dst,
        -mine if mine >= scope else mine - 128,
        not candidate.deprecated,
        device is None or candidate.dev == device.name,
        label6(candidate.local) == label6(dst),
        not candidate.temporary,
        min(common, candidate.prefixlen),
    )


def select6(world: World, device: Device | None, dst: int) -> int:
    """ipv6_dev_get_saddr with default preferences; 0 where there is no address."""
    scope = scope6(dst)
    own = device is not None and (
        dst >> 120 == 0xFF or scope <= LINK_LOCAL or bool(device.use_oif_addrs_only.value)
    )
    pool = [device] if own and device is not None else list(world.devices.values())
    best: tuple[tuple[int, ...], int] | None = None
    for each in pool:
        for candidate in each.inet6:
            if not candidate.usable or (candidate.local == 1 and dst != 1):
                continue
            rank = _rank(candidate, device, dst, scope)
            if best is None or rank > best[0]:
                best = rank, candidate.local
    return best[1] if best else 0
