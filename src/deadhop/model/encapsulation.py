"""What encapsulation costs: bytes between an inner IP packet and the outer device's MTU.

Measured default MTUs over a 1500-byte device on Linux 6.1; sources are the drivers under drivers/net and net/ipv4.
"""

from __future__ import annotations

from typing import NamedTuple


class Encapsulation(NamedTuple):
    """``prefixes`` are device names by which a tunnel of this kind is known; bytes over an IPv4 and an IPv6 underlay."""

    kind: str
    over_v4: int
    over_v6: int
    prefixes: tuple[str, ...]


TABLE: tuple[Encapsulation, ...] = (
    Encapsulation(
        "vxlan", 50, 70, ("vxlan", "flannel.", "cilium_vxlan", "vxlan.calico", "antrea-tun", "vxlan_sys")
    ),
    Encapsulation("geneve", 50, 70, ("geneve", "genev_sys", "cilium_geneve")),
    Encapsulation("ipip", 20, 40, ("tunl", "ipip", "cilium_ipip", "sit")),
    Encapsulation("gre", 24, 44, ("gre",)),
    Encapsulation(
        "wireguard", 60, 80, ("wg", "cilium_wg", "wireguard.cali", "flannel-wg", "tailscale", "kilo", "wt")
    ),
    Encapsulation("ipsec", 54, 74, ("ipsec", "vti", "xfrm")),
    Encapsulation("sleeve", 86, 106, ("weave", "vethwe")),
    Encapsulation("openvpn", 41, 61, ("tun",)),
)

#: Devices of a VPN that a gateway sends into, as opposed to the overlay beneath pods.
VPN = ("tun", "wg", "tailscale", "ppp", "ipsec", "vti", "xfrm", "nordlynx", "utun")
#: Physical and virtual NICs of a node.
NIC = ("eth", "ens", "eno", "enp", "enx", "em", "bond", "team", "venet", "p1p", "wlan")
#: WireGuard pads the inner packet to this many bytes (drivers/net/wireguard/send.c, MESSAGE_PADDING_MULTIPLE).
WIREGUARD_PADDING = 16


def encapsulation(name: str, kind: str | None = None) -> Encapsulation | None:
    """The row of a tunnel device, by its kind or by its name."""
    for row in TABLE:
        if kind == row.kind or (kind in ("sit", "gretap") and row.kind in ("ipip", "gre")):
            return row
    fitting = [(len(p), row) for row in TABLE for p in row.prefixes if name.startswith(p)]
    return max(fitting, key=lambda f: f[0])[1] if fitting else None
