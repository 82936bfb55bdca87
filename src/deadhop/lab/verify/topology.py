"""A topology to try: a router namespace as commands, and the packets to send through it.

Every part is a list of independent lines, so that a disagreement can be shrunk by leaving lines out. A line that the
kernel refuses is passed over: what counts is the state that it shows afterwards.
"""

from __future__ import annotations

import msgspec

from deadhop.model.packet import PacketFlow


class Port(msgspec.Struct, kw_only=True):
    """A device of the router, a veth whose other end is the outside. ``addresses`` are ``ip addr add`` arguments."""

    name: str
    mtu: int = 1500
    addresses: list[str] = msgspec.field(default_factory=list)
    up: bool = True
    carrier: bool = True


class Topology(msgspec.Struct, kw_only=True):
    """``ip`` lines are arguments of ip(8); ``nft`` and ``iptables`` lines whole commands of nft(8), iptables-restore."""

    kind: str
    seed: int
    ports: list[Port] = msgspec.field(default_factory=list)
    loopback: list[str] = msgspec.field(default_factory=list)
    sysctls: list[tuple[str, str]] = msgspec.field(default_factory=list)
    ip: list[str] = msgspec.field(default_factory=list)
    neighbours: list[str] = msgspec.field(default_factory=list)
    nft: list[str] = msgspec.field(default_factory=list)
    iptables: list[str] = msgspec.field(default_factory=list)
    flows: list[PacketFlow] = msgspec.field(default_factory=list)

    def scenario(self) -> str:
        """The commands that build it, for a person to read and run."""
        lines = [f"# {self.kind}, seed {self.seed}"]
        for port in self.ports:
            lines.append(f"ip link add {port.name} mtu {port.mtu} type veth" + (" up" if port.up else ""))
            lines += [f"ip addr add {address} dev {port.name}" for address in port.addresses]
        lines += [f"ip addr add {address} dev lo" for address in self.loopback]
        lines += [f"sysctl -w {key}={value}" for key, value in self.sysctls]
        lines += [f"ip {line}" for line in self.ip]
        lines += [f"nft '{line}'" for line in self.nft]
        lines += [f"iptables {line}" for line in self.iptables]
        lines += [msgspec.json.encode(flow).decode() for flow in self.flows]
        return "\n".join(lines)
