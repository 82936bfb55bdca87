"""Random topologies of the kinds fib, rpf, mtu, nft, v6 and nat, from a seed.

Addresses, tables and options are drawn from small pools on purpose: what matters happens where routes, rules and
packets collide.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random

from deadhop.lab.verify.generate_nft import nft_lines
from deadhop.lab.verify.router import neighbour_mac
from deadhop.lab.verify.topology import Port, Topology
from deadhop.model.packet import PacketFlow

KINDS = ("fib", "rpf", "mtu", "nft", "v6", "nat")
TABLES = ("main", "default", "100", "101", "102")
PREFIXES = (
    "default", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/7", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "10.1.0.0/24",
    "10.2.0.0/23", "10.2.0.0/24", "10.2.0.9", "10.9.0.0/16", "10.9.8.0/24", "10.9.8.128/25", "10.9.8.130",
    "172.16.0.0/12", "172.16.5.0/24", "203.0.113.0/24", "10.0.0.44",
)  # fmt: skip
TARGETS = (
    "10.0.0.44", "10.1.0.44", "10.2.0.44", "10.3.0.44", "10.0.0.3", "10.1.0.7", "10.2.0.9", "10.2.1.9", "10.9.8.1",
    "10.9.8.130", "10.9.8.131", "10.9.1.1", "10.66.1.1", "10.200.0.1", "172.16.5.5", "172.20.0.1", "203.0.113.7",
    "8.8.8.8", "11.1.1.1", "200.0.0.1", "10.1.7.7", "240.0.0.1",
)  # fmt: skip
ODD_TARGETS = (
    "0.0.0.0",
    "127.0.0.5",
    "255.255.255.255",
    "224.0.0.1",
    "224.0.0.5",
    "239.1.1.1",
    "0.1.2.3",
    "10.255.0.1",
)
FAR = ("10.9.7", "10.9.8", "172.16.5", "172.20.0", "198.51.100", "203.0.113", "8.8.4", "10.2.1", "192.168.5")
ODD_SOURCES = (
    "0.0.0.0", "127.0.0.1", "224.0.0.9", "255.255.255.255", "240.0.0.1", "169.254.7.7", "0.1.2.3", "10.1.0.255",
)  # fmt: skip
PREFIXES6 = (
    "default", "2000::/3", "2001:db8::/32", "2001:db8:5::/48", "fd00::/8", "fd00:1::/32", "fd00:2::/64", "fd09::/16",
    "fd09:8::/32", "fd09:8:0:1::/64", "fd09:8:0:1::130",
)  # fmt: skip
TARGETS6 = (
    "fd00::44", "fd00:1::44", "fd00:2::44", "fd00:3::44", "fd00:1::45", "fd09:8:0:1::130", "fd09:8:0:1::131",
    "fd09:8:1::1", "fd09:9::1", "fd0a::1", "2001:db8:5::5", "2001:db8:6::1", "3fff::1", "2600::8",
)  # fmt: skip
ODD_TARGETS6 = ("::1", "ff02::1", "ff02::2", "ff02::5", "ff05::2", "ff01::1", "fe80::99", "ff02::1:ff00:1")
ODD_SOURCES6 = ("::", "::1", "ff02::1", "fe80::77")
LENGTHS = (36, 48, 60, 84, 100, 500, 576, 600, 900, 1000, 1200, 1280, 1400, 1492, 1500)
TOS = (0, 0, 0, 0x02, 0x08, 0x10, 0x18, 0xB8)


class Generator:
    """One topology being drawn."""

    def __init__(self, seed: int, kind: str) -> None:
        self.random = Random(f"{kind} {seed}")
        self.kind = kind
        self.six = kind == "v6" or (kind in ("nft", "nat") and self.random.random() < 0.4)
        self.four = kind != "v6"
        count = self.random.randint(2, 5)
        self.topology = Topology(kind=kind, seed=seed)
        self.names = [f"d{i}" for i in range(count)]
        self.own4: list[str] = []
        self.own6: list[str] = []
        self.own_dev: dict[str, str] = {}

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def build(self) -> Topology:
        self._ports()
        self._sysctls()
        if self.four:
            self._routes4()
            self._rules(4)
        if self.six:
            self._routes6()
            self._rules(6)
        if self.kind in ("nft", "nat"):
            self.topology.nft = nft_lines(self.random, self.names, six=self.six, nat=self.kind == "nat")
        self._flows()
        self._neighbours()
        return self.topology

    def _ports(self) -> None:
        pick = self.random
        for index, name in enumerate(self.names):
            mtu = pick.choice((1500, 1500, 1500, 9000, 1400))
            if self.kind == "mtu":
                mtu = pick.choice((1500, 9000, 1400, 1280, 1000, 1492, 900))
            port = Port(name=name, mtu=mtu, up=not self.chance(0.03), carrier=not self.chance(0.05))
            if self.four and not (self.kind == "rpf" and self.chance(0.3)):
                length = pick.choice((24, 24, 24, 32, 25))
                broadcast = f" broadcast 10.{index}.0.255" if length == 24 and self.chance(0.6) else ""
                extra = " noprefixroute" if self.chance(0.1) else ""
                port.addresses.append(f"10.{index}.0.1/{length}{broadcast}{extra}")
                self._own(f"10.{index}.0.1", name)
                if self.chance(0.2):
                    port.addresses.append(f"10.{index}.5.1/25")
                    self._own(f"10.{index}.5.1", name)
                if self.chance(0.1):
                    port.addresses.append(f"10.{index}.0.2/24")
                    self._own(f"10.{index}.0.2", name)
            if self.six and not self.chance(0.15):
                middle = f":{index}" if index else ""
                port.addresses.append(f"fd00{middle}::1/{pick.choice((64, 64, 64, 128))} nodad")
                self._own(f"fd00{middle}::1", name)
            self.topology.ports.append(port)
        if self.four and self.chance(0.4):
            self.topology.loopback.append("10.255.0.1/32")
            self._own("10.255.0.1", "lo")
        if self.four and self.kind == "rpf" and self.chance(0.2):
            self.topology.ports[0].addresses.append("169.254.1.1/32")

    def _own(self, address: str, dev: str) -> None:
        (self.own6 if ":" in address else self.own4).append(address)
        self.own_dev[address] = dev

    def _sysctls(self) -> None:
        pick, out = self.random, self.topology.sysctls
        scopes = ["all", *self.names]
        if self.kind == "rpf" or self.chance(0.15):
            for scope in ("default", *scopes):
                if self.chance(0.5):
                    out.append((f"net.ipv4.conf.{scope}.rp_filter", str(pick.choice((0, 1, 2, 1, 2)))))
        for scope in scopes:
            for key, probability in (
                ("accept_local", 0.08), ("src_valid_mark", 0.12), ("route_localnet", 0.08), ("log_martians", 0.05),
            ):  # fmt: skip
                if self.chance(probability):
                    out.append((f"net.ipv4.conf.{scope}.{key}", "1"))
            if self.chance(0.15):
                out.append((f"net.ipv4.conf.{scope}.send_redirects", "0"))
        for name in self.names:
            if self.chance(0.07):
                out.append((f"net.ipv4.conf.{name}.forwarding", "0"))
            if self.chance(0.1):
                out.append((f"net.ipv4.conf.{name}.ignore_routes_with_linkdown", "1"))
            if self.six and self.chance(0.1):
                out.append((f"net.ipv6.conf.{name}.ignore_routes_with_linkdown", "1"))
            if self.six and self.chance(0.08):
                out.append((f"net.ipv6.conf.{name}.forwarding", "0"))
            if self.six and self.chance(0.05):
                out.append((f"net.ipv6.conf.{name}.force_forwarding", "1"))
            if self.six and self.chance(0.03):
                out.append((f"net.ipv6.conf.{name}.disable_ipv6", "1"))
            if self.six and self.kind == "v6" and self.chance(0.1):
                out.append((f"net.ipv6.conf.{name}.mtu", str(pick.choice((1280, 1400)))))
        if self.six and self.chance(0.15):
            out.append(("net.ipv6.conf.all.forwarding", "0"))
        if self.chance(0.08):
            out.append(("net.ipv4.ip_forward", "0"))
        for key, value, probability in (
            ("net.ipv4.ip_forward_use_pmtu", "1", 0.2), ("net.ipv4.fib_multipath_hash_policy", "1", 0.3),
            ("net.ipv6.fib_multipath_hash_policy", "1", 0.2), ("net.ipv4.icmp_errors_use_inbound_ifaddr", "1", 0.15),
            ("net.ipv4.fwmark_reflect", "1", 0.15), ("net.ipv6.fwmark_reflect", "1", 0.15),
            ("net.ipv4.conf.all.bc_forwarding", "1", 0.03),
        ):  # fmt: skip
            if self.chance(probability):
                out.append((key, value))

    def _gateway4(self, name: str) -> str:
        return f"10.{name[1:]}.0.{self.random.randint(4, 8)}"

    def _leg4(self) -> str:
        name = self.random.choice(self.names)
        gateway = self._gateway4(self.random.choice(self.names) if self.chance(0.1) else name)
        if self.chance(0.25):
            return f"dev {name}"
        return f"via {gateway} dev {name}" + (" onlink" if self.chance(0.5) else "")

    def _routes4(self) -> None:
        pick = self.random
        for _ in range(pick.randint(2, 14)):
            prefix = pick.choice(PREFIXES)
            kind = pick.choices(
                ("unicast", "unreachable", "blackhole", "prohibit", "throw", "local"), (70, 7, 6, 6, 7, 4)
            )[0]
            words = [
                "route",
                pick.choices(("add", "append"), (3, 1))[0],
                "" if kind == "unicast" else kind,
                prefix,
            ]
            if kind == "unicast":
                if self.chance(0.15):
                    words += [
                        f"nexthop {self._leg4()} weight {pick.randint(1, 4)}"
                        for _ in range(pick.randint(2, 3))
                    ]
                else:
                    words.append(self._leg4())
                if self.chance(0.2):
                    words.insert(4, f"src {pick.choice(self.own4 or ['10.0.0.1'])}")
                if self.chance(0.5 if self.kind == "mtu" else 0.08):
                    words.insert(4, f"mtu {pick.choice((600, 900, 1300, 1400, 2000, 8000, 1280))}")
            elif kind == "local":
                words.append("dev lo")
            if self.chance(0.35):
                words.insert(4, f"metric {pick.choice((10, 50, 100))}")
            if self.chance(0.2):
                words.insert(4, f"tos {pick.choice(('0x08', '0x10', '0x18'))}")
            table = pick.choices((*TABLES, "local"), (50, 10, 14, 12, 12, 2))[0]
            if kind == "local" and self.chance(0.6):
                table = "local"
            words.insert(4, f"table {table}")
            self.topology.ip.append(" ".join(word for word in words if word))
        if self.chance(0.15):
            self._nexthop_objects(4)

    def _nexthop_objects(self, version: int) -> None:
        pick, out = self.random, self.topology.ip
        flag = "-6 " if version == 6 else ""
        count = pick.randint(1, 3)
        for number in range(1, count + 1):
            name = pick.choice(self.names)
            if self.chance(0.12):
                out.append(f"{flag}nexthop add id {number} blackhole")
            elif version == 4:
                out.append(f"nexthop add id {number} via {self._gateway4(name)} dev {name} onlink")
            else:
                out.append(f"-6 nexthop add id {number} via {self._gateway6(name)} dev {name} onlink")
        out.append(f"{flag}nexthop add id 10 group " + "/".join(str(n) for n in range(1, count + 1)))
        for _ in range(pick.randint(1, 2)):
            prefix = pick.choice(PREFIXES if version == 4 else PREFIXES6)
            table = pick.choice(("main", "100"))
            out.append(
                f"{flag}route add {prefix} nhid {pick.choice((1, 10))} table {table} metric {pick.choice((5, 20))}"
            )

    def _rules(self, version: int) -> None:
        pick, out = self.random, self.topology.ip
        flag = "" if version == 4 else "-6 "
        if self.chance(0.35):
            return
        if self.chance(0.1):
            out.append(f"{flag}rule add priority 95 table local")
            out.append(f"{flag}rule del priority 0")
        if self.chance(0.06):
            out.append(f"{flag}rule del priority 32766")
        for _ in range(pick.randint(1, 5)):
            priority = pick.randint(10, 90)
            words = [f"{flag}rule add", "not" if self.chance(0.1) else "", f"priority {priority}"]
            if self.chance(0.25):
                pool4 = ("10.0.0.1", "10.1.0.0/24", "10.0.0.0/8", "192.168.0.0/16", "10.2.0.0/16")
                pool6 = ("fd00::1", "fd00:1::/32", "fd00::/16", "2001:db8::/32", "fd00:2::/64")
                words.append(f"from {pick.choice(pool4 if version == 4 else pool6)}")
            if self.chance(0.25):
                to4 = ("10.9.0.0/16", "10.9.8.130", "172.16.0.0/12", "8.0.0.0/5", "10.1.0.0/16")
                to6 = ("fd09::/16", "fd09:8:0:1::130", "2000::/3", "fd00:1::/64")
                words.append(f"to {pick.choice(to4 if version == 4 else to6)}")
            if self.chance(0.3):
                words.append(f"fwmark {pick.choice(('1', '2', '3', '0x3/0x2', '2/2', '0/1'))}")
            if self.chance(0.25):
                words.append(f"iif {pick.choice([*self.names, 'lo'])}")
            if self.chance(0.08):
                words.append(f"oif {pick.choice(self.names)}")
            if self.chance(0.15):
                words.append(f"tos {pick.choice(('0x08', '0x10', '0x18'))}")
            if self.chance(0.12):
                words.append(
                    f"ipproto {pick.choice(('udp', 'tcp', 'icmp' if version == 4 else 'ipv6-icmp'))}"
                )
                if self.chance(0.6) and "icmp" not in words[-1]:
                    words.append(f"dport {pick.choice(('53', '50-60', '1000-1010', '80'))}")
            if self.chance(0.05):
                words.append(f"sport {pick.choice(('20000-20010', '53'))}")
            action = pick.choices(
                ("table", "goto", "unreachable", "blackhole", "prohibit", "nop"), (75, 9, 5, 5, 4, 2)
            )[0]
            if action == "table":
                words.append(f"table {pick.choices((*TABLES, 'local'), (30, 12, 22, 18, 14, 4))[0]}")
                if self.chance(0.2):
                    words.append(f"suppress_prefixlength {pick.choice((0, 8, 16, 24))}")
            elif action == "goto":
                words.append(f"goto {pick.choice((priority + pick.randint(1, 30), 32766, 32767))}")
            else:
                words.append(action)
            out.append(" ".join(word for word in words if word))

    def _gateway6(self, name: str) -> str:
        index = int(name[1:])
        if self.chance(0.35):
            return f"fe80::{self.random.randint(4, 8)}"
        return f"fd00{f':{index}' if index else ''}::{self.random.randint(4, 8)}"

    def _leg6(self) -> str:
        name = self.random.choice(self.names)
        return f"dev {name}" if self.chance(0.25) else f"via {self._gateway6(name)} dev {name} onlink"

    def _routes6(self) -> None:
        pick = self.random
        for _ in range(pick.randint(2, 12)):
            prefix = pick.choice(PREFIXES6)
            kind = pick.choices(
                ("unicast", "unreachable", "blackhole", "prohibit", "throw", "local"), (74, 7, 6, 5, 5, 3)
            )[0]
            words = [
                "-6 route",
                pick.choices(("add", "append"), (3, 1))[0],
                "" if kind == "unicast" else kind,
                prefix,
            ]
            if self.chance(0.12):
                words.append(
                    f"from {pick.choice(('2001:db8::/32', 'fd00::/16', 'fd00:1::/64', 'fd00:1::/32'))}"
                )
            if kind == "unicast":
                if self.chance(0.2):
                    words += [f"nexthop {self._leg6()}" for _ in range(pick.randint(2, 3))]
                else:
                    words.append(self._leg6())
                if self.chance(0.15):
                    words.insert(4, f"src {pick.choice(self.own6 or ['fd00::1'])}")
                if self.chance(0.2):
                    words.insert(4, f"mtu {pick.choice((1280, 1300, 1500, 2000))}")
                if self.chance(0.1):
                    words.append(f"pref {pick.choice(('low', 'high'))}")
            else:
                words.append("dev lo")
            if self.chance(0.5):
                words.insert(4, f"metric {pick.choice((10, 50, 2000))}")
            words.insert(4, f"table {pick.choices((*TABLES, 'local'), (50, 8, 14, 12, 12, 2))[0]}")
            self.topology.ip.append(" ".join(word for word in words if word))
        if self.chance(0.15):
            self._nexthop_objects(6)

    def _flows(self) -> None:
        used: dict[str, int] = {}
        for number in range(30):
            six = self.six and (not self.four or self.chance(0.5))
            own = self.own6 if six else self.own4
            local = self.chance(0.15) and bool(own)
            flow = self._local(number, six, own) if local else self._received(number, six, used)
            self.topology.flows.append(flow)

    def _common(
        self, number: int, six: bool, proto: str, *, local: bool = False, mtu: int = 65535
    ) -> dict[str, object]:
        pick = self.random
        length = pick.choice(LENGTHS) + (pick.choice((-1, 0, 1)) if self.kind == "mtu" else 0)
        if self.chance(0.08):
            length = pick.randint(60, 2400)
        if not local:
            length = min(length, mtu)
        length = max(length, (60 if six else 40) + 12 if proto == "tcp" else 56 if six else 36)
        ports = proto != "icmp"
        return {
            "id": f"p{number}",
            "proto": proto,
            "sport": 20000 + number if ports else 0,
            "dport": pick.choice((53, 53, 80, 443, 9, 1005, 5555)) if ports else 0,
            "length": length,
            "df": not six and self.chance(0.5),
            "tos": pick.choice(TOS),
            "ttl": pick.choice((1, 2, 64, 64, 64, 64, 64, 64, 128, 255)),
        }

    def _received(self, number: int, six: bool, used: dict[str, int]) -> PacketFlow:
        pick = self.random
        dev = pick.choice(self.names)
        proto = pick.choice(("udp", "udp", "tcp", "icmp"))
        mtu = next(port.mtu for port in self.topology.ports if port.name == dev)
        fields = self._common(number, six, proto, mtu=mtu)
        if six:
            source, target = self._ends6(dev, used)
        else:
            source, target = self._ends4(dev, used)
        if proto == "tcp" and self.chance(0.15):
            fields["tcp_flags"] = pick.choice((("ack",), ("syn", "ack"), ("rst",), ("fin", "ack"), ("fin",)))
        if proto == "icmp" and self.chance(0.1):
            fields["icmp_type"] = pick.choice((129, 128)) if six else pick.choice((0, 13, 8))
        return PacketFlow(in_dev=dev, src=source, dst=target, **fields)  # type: ignore[arg-type]

    def _fresh(self, base: str, used: dict[str, int], six: bool = False) -> str:
        """An address that no other packet of the topology comes from: rate limits are per destination."""
        used[base] = used.get(base, 10) + 1
        return str(IPv6Address(f"{base}:{used[base]:x}")) if six else f"{base}.{used[base]}"

    def _reused(self, address: str, used: dict[str, int]) -> bool:
        """Whether the address was a source so often that the kernel would begin to limit errors to it."""
        used[address] = used.get(address, 0) + 1
        return used[address] > 3

    def _ends4(self, dev: str, used: dict[str, int]) -> tuple[str, str]:
        pick = self.random
        index = dev[1:]
        draw = pick.random()
        if draw < 0.55:
            source = self._fresh(f"10.{index}.0", used)
        elif draw < 0.7:
            source = self._fresh(f"10.{pick.choice(self.names)[1:]}.0", used)
        elif draw < 0.88:
            source = self._fresh(pick.choice(FAR), used)
        elif draw < 0.94 and self.own4:
            source = pick.choice(self.own4)
        else:
            source = pick.choice(ODD_SOURCES)
        if draw >= 0.88 and self._reused(source, used):
            source = self._fresh(f"10.{index}.0", used)
        draw = pick.random()
        if draw < 0.78 or not self.own4:
            target = pick.choice(TARGETS)
        elif draw < 0.9:
            target = pick.choice(self.own4)
        elif draw < 0.95:
            target = f"10.{pick.choice(self.names)[1:]}.0.255"
        else:
            target = pick.choice(ODD_TARGETS)
        return source, target

    def _ends6(self, dev: str, used: dict[str, int]) -> tuple[str, str]:
        pick = self.random
        index = int(dev[1:])
        draw = pick.random()
        if draw < 0.6:
            source = self._fresh(f"fd00{f':{index}' if index else ''}:", used, True)
        elif draw < 0.72:
            other = int(pick.choice(self.names)[1:])
            source = self._fresh(f"fd00{f':{other}' if other else ''}:", used, True)
        elif draw < 0.88:
            source = self._fresh(pick.choice(("2001:db8:5:", "fd77:", "2600:", "fd09:8:0:1:")), used, True)
        elif draw < 0.93 and self.own6:
            source = pick.choice(self.own6)
        else:
            source = pick.choice(ODD_SOURCES6)
        if draw >= 0.88 and self._reused(source, used):
            source = self._fresh(f"fd00{f':{index}' if index else ''}:", used, True)
        draw = pick.random()
        if draw < 0.8 or not self.own6:
            target = pick.choice(TARGETS6)
        elif draw < 0.92:
            target = pick.choice(self.own6)
        else:
            target = pick.choice(ODD_TARGETS6)
        return source, target

    def _local(self, number: int, six: bool, own: list[str]) -> PacketFlow:
        pick = self.random
        proto = pick.choice(("udp", "udp", "icmp"))
        fields = self._common(number, six, proto, local=True)
        target = pick.choice(own) if self.chance(0.15) else pick.choice(TARGETS6 if six else TARGETS)
        fields["mark"] = pick.choice((0, 1, 2, 3))
        fields["ttl"] = 64
        if six:
            fields["tos"] = pick.choice((0, 0, 0x10, 0x18))
        return PacketFlow(in_dev=None, src=pick.choice(own), dst=target, **fields)  # type: ignore[arg-type]

    def _neighbours(self) -> None:
        """Permanent neighbours for every address that may be a next hop, on every device."""
        four = (
            {f"10.{name[1:]}.0.{last}" for name in self.names for last in range(4, 9)} if self.four else set()
        )
        six = {f"fe80::{last}" for last in range(4, 9)} if self.six else set()
        for name in self.names if self.six else ():
            six |= {f"fd00{f':{name[1:]}' if name != 'd0' else ''}::{last}" for last in range(4, 9)}
        four.update(self.own4)
        six.update(self.own6)
        for flow in self.topology.flows:
            (six if ":" in flow.src else four).update((flow.src, flow.dst))
        four |= set(NAT_TARGETS4) if self.kind == "nat" else set()
        six |= set(NAT_TARGETS6) if self.kind == "nat" and self.six else set()
        for address in sorted(four) + sorted(six):
            if address in ("0.0.0.0", "::", "255.255.255.255") or address.startswith(("ff", "22", "23")):
                continue
            for name in self.names:
                self.topology.neighbours.append(
                    f"neigh replace {address} lladdr {neighbour_mac(address)} dev {name} nud permanent"
                )


NAT_TARGETS4 = ("10.0.0.99", "10.1.0.99", "10.2.0.99", "10.9.8.99")
NAT_TARGETS6 = ("fd00::99", "fd00:1::99", "fd09:8:0:1::99")


def generate(seed: int, kind: str | None = None) -> Topology:
    """The topology of a seed; without a kind, seeds take the kinds in turn."""
    return Generator(seed, kind or KINDS[seed % len(KINDS)]).build()
