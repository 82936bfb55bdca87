"""What the evidence says about packet sizes: the MTU of each device by its role, and which sizes passed or failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deadhop.evidence.fields import integer
from deadhop.model.encapsulation import NIC, VPN, Encapsulation, encapsulation
from deadhop.model.net import Link, Route
from deadhop.model.observed.node import Ping
from deadhop.model.observed.policy import CiliumOption
from deadhop.model.record import Record

ICMP4, ICMP6 = 28, 48


class Sized(NamedTuple):
    """A device (or a setting that will give it its MTU) and its role: nic, tunnel, vpn, bridge, pod or other."""

    name: str
    role: str
    mtu: int
    record: Record
    encapsulation: Encapsulation | None = None
    where: str = ""
    over: str = ""

    def rests_on(self, lower: Sized) -> bool:
        """Whether ``lower`` may be the device that carries this tunnel: not where another is named, or another place."""
        if self.over and self.over != lower.name:
            return False
        return not (self.where and lower.where and self.where != lower.where)


def role(name: str, link: Link | None = None) -> str:
    """What a device is, by kind and name."""
    if name == "lo":
        return "loopback"
    if (link is not None and link.kind == "bridge") or name.startswith(
        ("docker", "br-", "cni0", "kube-bridge", "virbr", "cbr0", "podman")
    ):
        return "bridge"
    if name.startswith(VPN) and not name.startswith(("tunl",)):
        return "vpn"
    if encapsulation(name, link.kind if link else None):
        return "tunnel"
    if name.startswith(("lxc", "cali", "eni", "azv", "veth", "gke", "vethwe")) or (
        link is not None and (link.link or "").startswith("if")
    ):
        return "pod"
    if name in ("host", "node", "underlay", "interface") or name.startswith(NIC):
        return "nic"
    return "other"


def devices(links: Iterable[Link], options: Iterable[CiliumOption] = ()) -> list[Sized]:
    """Every device that is up and has a known MTU, once per place and name; settings named mtu count as the tunnel or pod they size."""
    found: dict[tuple[str, str, int], Sized] = {}
    every = list(links)
    # A listing of MTUs alone does not show the far end of a veth; another listing of the same place does.
    veths = {(link.where, link.ifname) for link in every if (link.link or "").startswith("if")}
    for link in every:
        if link.mtu and link.ifname != "lo" and link.up:
            kind = "pod" if (link.where, link.ifname) in veths else role(link.ifname, link)
            found[link.where, link.ifname, link.mtu] = Sized(
                link.ifname,
                kind,
                link.mtu,
                link,
                encapsulation(link.ifname, link.kind),
                link.where,
                _lower(link),
            )
    for option in options:
        key = option.key.lower().rsplit(".", 1)[-1]
        if (
            key
            in (
                "mtu",
                "veth_mtu",
                "fluentd_mtu",
                "device-mtu",
                "tunnel-mtu",
                "vethmtu",
                "ipipmtu",
                "vxlanmtu",
                "wireguardmtu",
            )
            and (mtu := integer(option.value))
            and mtu > 500
        ):
            kind = "pod" if "veth" in key else "tunnel"
            found["", option.key, mtu] = Sized(
                option.key,
                kind,
                mtu,
                option,
                encapsulation(
                    "vxlan" if "vxlan" in key else "wg" if "wire" in key else "ipip" if "ipip" in key else ""
                ),
                "",
            )
    return list(found.values())


def _lower(link: Link) -> str:
    """The device that a tunnel was bound to: ``dev eth0`` in text, ``link`` among the kind's data in JSON."""
    info = link.info or {}
    lower = info.get("dev") or (
        info.get("link") if link.kind in ("vxlan", "geneve", "gre", "ipip", "sit") else ""
    )
    return lower if isinstance(lower, str) else ""


class Probe(NamedTuple):
    """A size that was tried: the IP packet's length in bytes and whether it passed."""

    length: int
    ok: bool
    df: bool
    record: Ping


def probes(pings: Iterable[Ping], v6: bool = False) -> list[Probe]:
    """Pings with a size, as IP packet lengths."""
    return [
        Probe(p.size + (ICMP6 if v6 or ":" in p.target else ICMP4), p.ok, p.df, p)
        for p in pings
        if p.size and p.ok is not None
    ]


def limits(found: Iterable[Probe]) -> list[tuple[Probe, Probe]]:
    """For each target: the largest size that passed and the smallest that failed above it, where both are known.

    A probe without a target may have gone to any of them."""
    by_target: dict[str, list[Probe]] = {}
    for probe in found:
        by_target.setdefault(probe.record.target, []).append(probe)
    anywhere = by_target.pop("", [])
    edges = []
    for group in [[*rows, *anywhere] for rows in by_target.values()] or [anywhere]:
        passed = [p for p in group if p.ok]
        largest = max((p.length for p in passed), default=0)
        failed = [p for p in group if not p.ok and p.length > largest]
        if passed and failed:
            edges.append((max(passed, key=lambda p: p.length), min(failed, key=lambda p: p.length)))
    return edges


def limit(found: Iterable[Probe]) -> tuple[Probe, Probe] | None:
    """The sharpest of :func:`limits`."""
    return min(limits(found), key=lambda e: e[1].length - e[0].length, default=None)


def route_mtus(routes: Iterable[Route]) -> list[Route]:
    """Routes that carry an MTU of their own."""
    return [r for r in routes if r.mtu]
