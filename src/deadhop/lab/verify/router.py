"""A topology made real: the router's namespace, one for the outside, and the evidence that the kernel shows."""

from __future__ import annotations

import hashlib
import ipaddress
import time

from deadhop.collect.gather import LISTINGS
from deadhop.lab.verify.netns import Netns
from deadhop.lab.verify.topology import Topology

#: Settings that keep the kernel's rate limits and autoconfiguration out of the measurement.
QUIET = {
    "net.ipv4.icmp_ratemask": "0",
    "net.ipv4.icmp_msgs_per_sec": "1000000",
    "net.ipv4.icmp_msgs_burst": "1000000",
    "net.ipv4.icmp_echo_ignore_all": "1",
    "net.ipv6.icmp.ratelimit": "0",
    "net.ipv6.icmp.echo_ignore_all": "1",
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
}
QUIET_DEVICE = {
    "net.ipv6.conf.{}.accept_dad": "0",
    "net.ipv6.conf.{}.dad_transmits": "0",
    "net.ipv6.conf.{}.router_solicitations": "0",
}
PEER_MTU = 65535

#: What a comparison needs of a namespace's folder. The counters of ``ip -s`` are none of it.
EVIDENCE: dict[str, tuple[str, ...]] = {
    file: tuple(word for word in argv if word != "-s")
    for file, argv in LISTINGS.items()
    if file.endswith(".json")
}


class Router:
    """The namespaces of one topology. :meth:`close` removes everything."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.router = Netns()
        self.outside = Netns()
        self.legacy = bool(topology.iptables)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        topology = self.topology
        links: list[str] = ["link set lo up"]
        peers: list[str] = []
        for index, port in enumerate(topology.ports):
            mac, peer_mac = mac_of(index), f"02:bb:00:00:00:{index:02x}"
            links.append(
                f"link add {port.name} address {mac} mtu {port.mtu} type veth "
                f"peer name p{index} address {peer_mac} mtu {PEER_MTU} netns {self.outside.path}"
            )
            peers.append(f"link set p{index} up" if port.carrier else f"link set p{index} down")
        self.outside.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self._batch(links)
        for key, value in QUIET.items():
            self.router.sysctl(key, value)
        for key, value in QUIET_DEVICE.items():
            for name in ("default", *(port.name for port in topology.ports)):
                self.router.sysctl(key.format(name), value)
        self.outside.run("ip", "-force", "-batch", "-", feed="\n".join(peers))
        lines = [f"addr add {address} dev lo" for address in topology.loopback]
        lines += [f"link set {port.name} up" for port in topology.ports if port.up]
        lines += [
            f"addr add {address} dev {port.name}" for port in topology.ports for address in port.addresses
        ]
        self._batch(lines)
        for port in topology.ports:  # ip(8) gives up a batch at the first neighbour that a device refuses
            mine = [line for line in topology.neighbours if f" dev {port.name} " in line]
            self._batch([line for line in mine if ":" not in line.split()[2]])
            self._batch([line for line in mine if ":" in line.split()[2]])
        for key, value in topology.sysctls:
            self.router.sysctl(key, value)
        self._batch(topology.ip)
        self._rules()
        self.settle()

    def _batch(self, lines: list[str]) -> None:
        four = [line for line in lines if not line.startswith("-6 ")]
        six = [line.removeprefix("-6 ") for line in lines if line.startswith("-6 ")]
        if four:
            self.router.run("ip", "-force", "-batch", "-", feed="\n".join(four))
        if six:
            self.router.run("ip", "-6", "-force", "-batch", "-", feed="\n".join(six))

    def _rules(self) -> None:
        nft = self.topology.nft
        if nft and self.router.run("nft", "-f", "-", feed="\n".join(nft) + "\n").returncode:
            for line in nft:
                self.router.run("nft", "-f", "-", feed=line + "\n")
        if self.topology.iptables:
            whole = "\n".join(self.topology.iptables) + "\n"
            self.router.run("iptables-legacy-restore", "--noflush", feed=whole)

    def settle(self) -> None:
        """Waits until IPv6 addresses have their local routes: the kernel adds them from a work queue."""
        before = b""
        for _ in range(20):
            now = self.router.run("ip", "-6", "route", "show", "table", "all").stdout
            if now == before:
                return
            before = now
            time.sleep(0.015)

    def evidence(self) -> dict[str, bytes]:
        """The files of the namespace's folder."""
        files = {name: self.router.run(*command).stdout for name, command in EVIDENCE.items()}
        files["sysctl.txt"] = self.router.sysctls().encode()
        if self.legacy:
            files["iptables-legacy-save.txt"] = self.router.run("iptables-legacy-save").stdout
        return files

    def close(self) -> None:
        self.router.close()
        self.outside.close()


def mac_of(index: int) -> str:
    """The router's address on its port ``index``."""
    return f"02:aa:00:00:00:{index:02x}"


def neighbour_mac(address: str) -> str:
    """The link-layer address that stands for a next hop: its place can be read back from a captured frame."""
    digest = hashlib.sha256(ipaddress.ip_address(address).packed).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in digest[:5])
