"""Random routes, nexthop objects and policy rules, as arguments of ip(8)."""

from __future__ import annotations

from deadhop.lab.verify.drawing import Drawing

TABLES = ("main", "default", "100", "101", "102")
PREFIXES = (
    "default", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/7", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "10.1.0.0/24",
    "10.2.0.0/23", "10.2.0.0/24", "10.2.0.9", "10.9.0.0/16", "10.9.8.0/24", "10.9.8.128/25", "10.9.8.130",
    "172.16.0.0/12", "172.16.5.0/24", "203.0.113.0/24", "10.0.0.44",
)  # fmt: skip
PREFIXES6 = (
    "default", "2000::/3", "2001:db8::/32", "2001:db8:5::/48", "fd00::/8", "fd00:1::/32", "fd00:2::/64", "fd09::/16",
    "fd09:8::/32", "fd09:8:0:1::/64", "fd09:8:0:1::130",
)  # fmt: skip


def _gateway4(draw: Drawing, name: str) -> str:
    return f"10.{name[1:]}.0.{draw.random.randint(4, 8)}"


def _leg4(draw: Drawing) -> str:
    name = draw.random.choice(draw.names)
    gateway = _gateway4(draw, draw.random.choice(draw.names) if draw.chance(0.1) else name)
    if draw.chance(0.25):
        return f"dev {name}"
    return f"via {gateway} dev {name}" + (" onlink" if draw.chance(0.5) else "")


def draw_routes4(draw: Drawing) -> None:
    """Adds IPv4 routes, and sometimes nexthop objects with routes of their own."""
    pick = draw.random
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
            if draw.chance(0.15):
                words += [
                    f"nexthop {_leg4(draw)} weight {pick.randint(1, 4)}" for _ in range(pick.randint(2, 3))
                ]
            else:
                words.append(_leg4(draw))
            if draw.chance(0.2):
                words.insert(4, f"src {pick.choice(draw.own4 or ['10.0.0.1'])}")
            if draw.chance(0.5 if draw.kind == "mtu" else 0.08):
                words.insert(4, f"mtu {pick.choice((600, 900, 1300, 1400, 2000, 8000, 1280))}")
        elif kind == "local":
            words.append("dev lo")
        if draw.chance(0.35):
            words.insert(4, f"metric {pick.choice((10, 50, 100))}")
        if draw.chance(0.2):
            words.insert(4, f"tos {pick.choice(('0x08', '0x10', '0x18'))}")
        table = pick.choices((*TABLES, "local"), (50, 10, 14, 12, 12, 2))[0]
        if kind == "local" and draw.chance(0.6):
            table = "local"
        words.insert(4, f"table {table}")
        draw.topology.ip.append(" ".join(word for word in words if word))
    if draw.chance(0.15):
        _nexthop_objects(draw, 4)


def _gateway6(draw: Drawing, name: str) -> str:
    index = int(name[1:])
    if draw.chance(0.35):
        return f"fe80::{draw.random.randint(4, 8)}"
    return f"fd00{f':{index}' if index else ''}::{draw.random.randint(4, 8)}"


def _leg6(draw: Drawing) -> str:
    name = draw.random.choice(draw.names)
    return f"dev {name}" if draw.chance(0.25) else f"via {_gateway6(draw, name)} dev {name} onlink"


def draw_routes6(draw: Drawing) -> None:
    """Adds IPv6 routes, and sometimes nexthop objects with routes of their own."""
    pick = draw.random
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
        if draw.chance(0.12):
            words.append(f"from {pick.choice(('2001:db8::/32', 'fd00::/16', 'fd00:1::/64', 'fd00:1::/32'))}")
        if kind == "unicast":
            if draw.chance(0.2):
                words += [f"nexthop {_leg6(draw)}" for _ in range(pick.randint(2, 3))]
            else:
                words.append(_leg6(draw))
            if draw.chance(0.15):
                words.insert(4, f"src {pick.choice(draw.own6 or ['fd00::1'])}")
            if draw.chance(0.2):
                words.insert(4, f"mtu {pick.choice((1280, 1300, 1500, 2000))}")
            if draw.chance(0.1):
                words.append(f"pref {pick.choice(('low', 'high'))}")
        else:
            words.append("dev lo")
        if draw.chance(0.5):
            words.insert(4, f"metric {pick.choice((10, 50, 2000))}")
        words.insert(4, f"table {pick.choices((*TABLES, 'local'), (50, 8, 14, 12, 12, 2))[0]}")
        draw.topology.ip.append(" ".join(word for word in words if word))
    if draw.chance(0.15):
        _nexthop_objects(draw, 6)


def _nexthop_objects(draw: Drawing, version: int) -> None:
    pick, out = draw.random, draw.topology.ip
    flag = "-6 " if version == 6 else ""
    count = pick.randint(1, 3)
    for number in range(1, count + 1):
        name = pick.choice(draw.names)
        if draw.chance(0.12):
            out.append(f"{flag}nexthop add id {number} blackhole")
        elif version == 4:
            out.append(f"nexthop add id {number} via {_gateway4(draw, name)} dev {name} onlink")
        else:
            out.append(f"-6 nexthop add id {number} via {_gateway6(draw, name)} dev {name} onlink")
    out.append(f"{flag}nexthop add id 10 group " + "/".join(str(n) for n in range(1, count + 1)))
    for _ in range(pick.randint(1, 2)):
        prefix = pick.choice(PREFIXES if version == 4 else PREFIXES6)
        table = pick.choice(("main", "100"))
        out.append(
            f"{flag}route add {prefix} nhid {pick.choice((1, 10))} table {table} metric {pick.choice((5, 20))}"
        )


def draw_rules(draw: Drawing, version: int) -> None:
    """Adds policy rules of an IP ``version``, now and then in another order than the usual one."""
    pick, out = draw.random, draw.topology.ip
    flag = "" if version == 4 else "-6 "
    if draw.chance(0.35):
        return
    if draw.chance(0.1):
        out.append(f"{flag}rule add priority 95 table local")
        out.append(f"{flag}rule del priority 0")
    if draw.chance(0.06):
        out.append(f"{flag}rule del priority 32766")
    for _ in range(pick.randint(1, 5)):
        priority = pick.randint(10, 90)
        words = [f"{flag}rule add", "not" if draw.chance(0.1) else "", f"priority {priority}"]
        if draw.chance(0.25):
            pool4 = ("10.0.0.1", "10.1.0.0/24", "10.0.0.0/8", "192.168.0.0/16", "10.2.0.0/16")
            pool6 = ("fd00::1", "fd00:1::/32", "fd00::/16", "2001:db8::/32", "fd00:2::/64")
            words.append(f"from {pick.choice(pool4 if version == 4 else pool6)}")
        if draw.chance(0.25):
            to4 = ("10.9.0.0/16", "10.9.8.130", "172.16.0.0/12", "8.0.0.0/5", "10.1.0.0/16")
            to6 = ("fd09::/16", "fd09:8:0:1::130", "2000::/3", "fd00:1::/64")
            words.append(f"to {pick.choice(to4 if version == 4 else to6)}")
        if draw.chance(0.3):
            words.append(f"fwmark {pick.choice(('1', '2', '3', '0x3/0x2', '2/2', '0/1'))}")
        if draw.chance(0.25):
            words.append(f"iif {pick.choice([*draw.names, 'lo'])}")
        if draw.chance(0.08):
            words.append(f"oif {pick.choice(draw.names)}")
        if draw.chance(0.15):
            words.append(f"tos {pick.choice(('0x08', '0x10', '0x18'))}")
        if draw.chance(0.12):
            words.append(f"ipproto {pick.choice(('udp', 'tcp', 'icmp' if version == 4 else 'ipv6-icmp'))}")
            if draw.chance(0.6) and "icmp" not in words[-1]:
                words.append(f"dport {pick.choice(('53', '50-60', '1000-1010', '80'))}")
        if draw.chance(0.05):
            words.append(f"sport {pick.choice(('20000-20010', '53'))}")
        action = pick.choices(
            ("table", "goto", "unreachable", "blackhole", "prohibit", "nop"), (75, 9, 5, 5, 4, 2)
        )[0]
        if action == "table":
            words.append(f"table {pick.choices((*TABLES, 'local'), (30, 12, 22, 18, 14, 4))[0]}")
            if draw.chance(0.2):
                words.append(f"suppress_prefixlength {pick.choice((0, 8, 16, 24))}")
        elif action == "goto":
            words.append(f"goto {pick.choice((priority + pick.randint(1, 30), 32766, 32767))}")
        else:
            words.append(action)
        out.append(" ".join(word for word in words if word))
