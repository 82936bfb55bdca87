"""Random packets for a topology: received on one of its devices, or sent by the router itself."""

from __future__ import annotations

from ipaddress import IPv6Address

from deadhop.lab.verify.drawing import Drawing
from deadhop.model.packet import PacketFlow

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
TARGETS6 = (
    "fd00::44", "fd00:1::44", "fd00:2::44", "fd00:3::44", "fd00:1::45", "fd09:8:0:1::130", "fd09:8:0:1::131",
    "fd09:8:1::1", "fd09:9::1", "fd0a::1", "2001:db8:5::5", "2001:db8:6::1", "3fff::1", "2600::8",
)  # fmt: skip
ODD_TARGETS6 = ("::1", "ff02::1", "ff02::2", "ff02::5", "ff05::2", "ff01::1", "fe80::99", "ff02::1:ff00:1")
ODD_SOURCES6 = ("::", "::1", "ff02::1", "fe80::77")
LENGTHS = (36, 48, 60, 84, 100, 500, 576, 600, 900, 1000, 1200, 1280, 1400, 1492, 1500)
TOS = (0, 0, 0, 0x02, 0x08, 0x10, 0x18, 0xB8)


def draw_packets(draw: Drawing) -> None:
    """Adds thirty packets; no source is used so often that the kernel would limit its errors."""
    used: dict[str, int] = {}
    for number in range(30):
        six = draw.six and (not draw.four or draw.chance(0.5))
        own = draw.own6 if six else draw.own4
        local = draw.chance(0.15) and bool(own)
        flow = _local(draw, number, six, own) if local else _received(draw, number, six, used)
        draw.topology.flows.append(flow)


def _received(draw: Drawing, number: int, six: bool, used: dict[str, int]) -> PacketFlow:
    pick = draw.random
    dev = pick.choice(draw.names)
    proto = pick.choice(("udp", "udp", "tcp", "icmp"))
    mtu = next(port.mtu for port in draw.topology.ports if port.name == dev)
    fields = _common(draw, number, six, proto, mtu=mtu)
    if six:
        source, target = _ends6(draw, dev, used)
    else:
        source, target = _ends4(draw, dev, used)
    if proto == "tcp" and draw.chance(0.15):
        fields["tcp_flags"] = pick.choice((("ack",), ("syn", "ack"), ("rst",), ("fin", "ack"), ("fin",)))
    if proto == "icmp" and draw.chance(0.1):
        fields["icmp_type"] = pick.choice((129, 128)) if six else pick.choice((0, 13, 8))
    return PacketFlow(in_dev=dev, src=source, dst=target, **fields)  # type: ignore[arg-type]


def _local(draw: Drawing, number: int, six: bool, own: list[str]) -> PacketFlow:
    pick = draw.random
    proto = pick.choice(("udp", "udp", "icmp"))
    fields = _common(draw, number, six, proto, local=True)
    target = pick.choice(own) if draw.chance(0.15) else pick.choice(TARGETS6 if six else TARGETS)
    fields["mark"] = pick.choice((0, 1, 2, 3))
    fields["ttl"] = 64
    if six:
        fields["tos"] = pick.choice((0, 0, 0x10, 0x18))
    return PacketFlow(in_dev=None, src=pick.choice(own), dst=target, **fields)  # type: ignore[arg-type]


def _common(
    draw: Drawing, number: int, six: bool, proto: str, *, local: bool = False, mtu: int = 65535
) -> dict[str, object]:
    pick = draw.random
    length = pick.choice(LENGTHS) + (pick.choice((-1, 0, 1)) if draw.kind == "mtu" else 0)
    if draw.chance(0.08):
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
        "df": not six and draw.chance(0.5),
        "tos": pick.choice(TOS),
        "ttl": pick.choice((1, 2, 64, 64, 64, 64, 64, 64, 128, 255)),
    }


def _ends4(draw: Drawing, dev: str, used: dict[str, int]) -> tuple[str, str]:
    pick = draw.random
    index = dev[1:]
    share = pick.random()
    if share < 0.55:
        source = _fresh(f"10.{index}.0", used)
    elif share < 0.7:
        source = _fresh(f"10.{pick.choice(draw.names)[1:]}.0", used)
    elif share < 0.88:
        source = _fresh(pick.choice(FAR), used)
    elif share < 0.94 and draw.own4:
        source = pick.choice(draw.own4)
    else:
        source = pick.choice(ODD_SOURCES)
    if share >= 0.88 and _reused(source, used):
        source = _fresh(f"10.{index}.0", used)
    share = pick.random()
    if share < 0.78 or not draw.own4:
        target = pick.choice(TARGETS)
    elif share < 0.9:
        target = pick.choice(draw.own4)
    elif share < 0.95:
        target = f"10.{pick.choice(draw.names)[1:]}.0.255"
    else:
        target = pick.choice(ODD_TARGETS)
    return source, target


def _ends6(draw: Drawing, dev: str, used: dict[str, int]) -> tuple[str, str]:
    pick = draw.random
    index = int(dev[1:])
    share = pick.random()
    if share < 0.6:
        source = _fresh(f"fd00{f':{index}' if index else ''}:", used, True)
    elif share < 0.72:
        other = int(pick.choice(draw.names)[1:])
        source = _fresh(f"fd00{f':{other}' if other else ''}:", used, True)
    elif share < 0.88:
        source = _fresh(pick.choice(("2001:db8:5:", "fd77:", "2600:", "fd09:8:0:1:")), used, True)
    elif share < 0.93 and draw.own6:
        source = pick.choice(draw.own6)
    else:
        source = pick.choice(ODD_SOURCES6)
    if share >= 0.88 and _reused(source, used):
        source = _fresh(f"fd00{f':{index}' if index else ''}:", used, True)
    share = pick.random()
    if share < 0.8 or not draw.own6:
        target = pick.choice(TARGETS6)
    elif share < 0.92:
        target = pick.choice(draw.own6)
    else:
        target = pick.choice(ODD_TARGETS6)
    return source, target


def _fresh(base: str, used: dict[str, int], six: bool = False) -> str:
    """An address that no other packet of the topology comes from: rate limits are per destination."""
    used[base] = used.get(base, 10) + 1
    return str(IPv6Address(f"{base}:{used[base]:x}")) if six else f"{base}.{used[base]}"


def _reused(address: str, used: dict[str, int]) -> bool:
    """Whether the address was a source so often that the kernel would begin to limit errors to it."""
    used[address] = used.get(address, 0) + 1
    return used[address] > 3
