"""Random nftables rulesets: base chains of all hooks and families, regular chains, sets, maps, verdicts, NAT."""

from __future__ import annotations

from random import Random

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
PRIORITIES = (-310, -300, -150, -10, 0, 0, 5, 10, 110)
SETS4 = "{ 10.1.0.0/24, 192.168.0.0/16, 203.0.113.0/25, 8.8.8.8 }"
SETS6 = "{ fd00:1::/64, 2600::8, 2001:db8::/32 }"


class Rules:
    """One ruleset being drawn."""

    def __init__(self, random: Random, names: list[str], *, six: bool, nat: bool) -> None:
        self.random = random
        self.names = names
        self.six = six
        self.nat = nat
        self.lines: list[str] = []

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def draw(self) -> list[str]:
        families = ["ip", "inet", *(["ip6"] if self.six else [])]
        for number in range(self.random.randint(1, 2 if not self.nat else 3)):
            self._table(f"t{number}", self.random.choice(families))
        if self.nat:
            self._nat_table("inet" if self.chance(0.4) else "ip")
            if self.six:
                self._nat_table("ip6")
        return self.lines

    def _table(self, name: str, family: str) -> None:
        pick, add = self.random, self.lines.append
        add(f"add table {family} {name}")
        add(f"add set {family} {name} s4 {{ type ipv4_addr; flags interval; elements = {SETS4}; }}")
        add(f"add set {family} {name} s6 {{ type ipv6_addr; flags interval; elements = {SETS6}; }}")
        add(
            f"add set {family} {name} ports {{ type inet_service; flags interval; elements = {{ 53, 440-450, 5555 }}; }}"
        )
        names = ", ".join(f'"{n}"' for n in self.names[::2])
        add(f"add set {family} {name} ifs {{ type ifname; elements = {{ {names} }}; }}")
        add(
            f"add set {family} {name} pairs {{ type ipv4_addr . inet_service; flags interval; "
            "elements = { 10.9.0.0/16 . 53, 10.1.0.44 . 1-1023, 8.8.8.8 . 53 }; }"
        )
        regular = [f"r{i}" for i in range(pick.randint(0, 3))]
        for chain in regular:
            add(f"add chain {family} {name} {chain}")
        bases: list[tuple[str, str]] = []
        for number in range(pick.randint(1, 4)):
            hook = pick.choice(HOOKS)
            kind = "route" if hook == "output" and self.chance(0.4) else "filter"
            policy = "drop" if self.chance(0.12) else "accept"
            add(
                f"add chain {family} {name} b{number} {{ type {kind} hook {hook} priority "
                f"{pick.choice(PRIORITIES)}; policy {policy}; }}"
            )
            bases.append((f"b{number}", hook))
        if regular:
            add(
                f"add map {family} {name} vm {{ type inet_service : verdict; "
                f"elements = {{ 53 : jump {pick.choice(regular)}, 80 : accept, 443 : drop }}; }}"
            )
        add(
            f"add map {family} {name} marks {{ type ipv4_addr : mark; elements = {{ 10.9.8.1 : 1, 8.8.8.8 : 3 }}; }}"
        )
        for index, chain in enumerate(regular):
            for _ in range(pick.randint(0, 4)):
                add(
                    f"add rule {family} {name} {chain} {self._rule(family, 'any', regular[index + 1 :], bool(regular))}"
                )
        for chain, hook in bases:
            for _ in range(pick.randint(0, 5)):
                add(f"add rule {family} {name} {chain} {self._rule(family, hook, regular, bool(regular))}")

    def _match(self, family: str) -> str:
        pick = self.random
        options = [
            f"meta mark {pick.choice(('1', '2', '!= 0', '& 2 == 2', '{ 1, 3 }', '1-2'))}",
            f"meta l4proto {pick.choice(('tcp', 'udp', 'icmp', '{ tcp, udp }', '!= udp'))}",
            f"iifname {pick.choice((self.names[0], '!= ' + self.names[-1], '@ifs', 'd*', '{ d0, d1 }', 'lo'))}",
            f"oifname {pick.choice((self.names[0], '!= ' + self.names[-1], '@ifs', 'd*', '!= lo'))}",
            f"meta length {pick.choice(('> 500', '<= 84', '100-1200', '!= 84'))}",
            f"udp dport {pick.choice(('53', '!= 50-100', '{ 53, 1005 }', '@ports', '> 100'))}",
            f"tcp dport {pick.choice(('{ 80, 443 }', '1-1023', '443', '!= 80'))}",
            f"th dport {pick.choice(('53', '@ports', '{ 9, 443 }'))}",
            f"th sport {pick.choice(('< 20010', '>= 20020', '20005-20015'))}",
            f"tcp flags {pick.choice(('syn', '& (fin|syn|rst|ack) == syn', '& ack == 0', '== syn', '!= syn'))}",
            f"fib daddr type {pick.choice(('local', 'unicast', 'broadcast', '!= local', '{ local, broadcast }'))}",
            f"fib saddr type {pick.choice(('local', 'unicast', '!= unicast'))}",
            "fib daddr . iif type local",
            f"fib saddr . iif oif {pick.choice(('missing', 'exists'))}",
            f"fib saddr . mark oif {pick.choice(('missing', 'exists'))}",
            f"fib daddr oifname {self.names[0]}",
            f"ct state {pick.choice(('new', 'invalid', 'established,related', '{ new, untracked }', '!= new'))}",
            f"ct mark {pick.choice(('0', '1', '!= 0'))}",
            "ct direction original",
            "ct status dnat",
            f"meta nfproto {pick.choice(('ipv4', 'ipv6'))}" if family == "inet" else "meta mark 0",
            "meta pkttype host",
            f"th dport vmap {{ 53 : {self._verdict_word()}, 80 : accept, 1-40 : drop }}",
            "meta iifname . th dport { d0 . 53, d1 . 80, d0 . 443 }",
            "limit rate 1000/second burst 1000 packets",
            "limit rate over 1000/second burst 1000 packets",
        ]
        four = [
            f"ip saddr {pick.choice(('10.1.0.0/24', '!= 10.0.0.0/8', '@s4', '!= @s4', '10.0.0.0-10.0.0.255'))}",
            f"ip daddr {pick.choice(('10.9.0.0/16', '!= 10.9.0.0/16', '{ 10.9.1.1, 8.8.8.8 }', '@s4', '11.0.0.0/8'))}",
            f"ip protocol {pick.choice(('udp', 'tcp', 'icmp', '!= tcp'))}",
            f"ip dscp {pick.choice(('cs1', '4', 'ef', '!= cs0', '{ cs1, cs2 }'))}",
            f"ip ttl {pick.choice(('< 64', '64', '> 1', '< 65'))}",
            f"ip length {pick.choice(('> 500', '84', '< 100'))}",
            f"ip frag-off & 0x4000 {pick.choice(('!= 0', '== 0'))}",
            f"icmp type {pick.choice(('echo-request', '{ echo-request, echo-reply }', '!= echo-request'))}",
            "ip daddr . th dport @pairs",
            "ip daddr . th dport { 10.9.8.1 . 53, 10.1.0.44 . 80 }",
            "ip saddr & 0.0.0.3 == 0.0.0.3",
            f"ip ecn {pick.choice(('not-ect', 'ect0', 'ce'))}",
            "@nh,72,8 17",
            "@th,16,16 53",
        ]
        six = [
            f"ip6 saddr {pick.choice(('fd00::/64', '!= fd00:1::/32', '@s6', '!= @s6'))}",
            f"ip6 daddr {pick.choice(('fd09::/16', '@s6', '{ fd0a::1, 2600::8 }', '!= fd00::/16'))}",
            f"ip6 nexthdr {pick.choice(('udp', 'tcp', 'ipv6-icmp', '!= udp'))}",
            f"ip6 hoplimit {pick.choice(('< 64', '64', '> 1'))}",
            f"ip6 length {pick.choice(('> 500', '< 100'))}",
            f"ip6 dscp {pick.choice(('cs1', 'cs2', '!= cs0'))}",
            "icmpv6 type echo-request",
            "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert }",
        ]
        pool = (
            options
            + (four * 2 if family in ("ip", "inet") else [])
            + (six * 2 if family in ("ip6", "inet") and self.six else [])
        )
        return pick.choice(pool)

    def _verdict_word(self) -> str:
        return self.random.choice(("accept", "drop", "return"))

    def _statement(self, family: str, hook: str, targets: list[str], has_map: bool) -> str:
        pick = self.random
        options = ["accept", "accept", "drop", "drop", "return", "counter", "continue"]
        options += [
            f"meta mark set {pick.choice(('1', '2', '3', 'meta mark | 2', 'meta mark & 1', 'ct mark'))}"
        ] * 3
        options += [f"ct mark set {pick.choice(('1', 'meta mark'))}"]
        if family in ("ip", "inet"):
            options += ["meta mark set ip daddr map @marks"]
        if targets:
            options += [f"jump {pick.choice(targets)}", f"goto {pick.choice(targets)}"] * 2
        if has_map and hook != "any":
            options += ["th dport vmap @vm"]
        if hook in ("input", "forward", "output", "prerouting"):
            options += [self._reject(family)] * 2
        if hook in ("prerouting", "output"):
            options += ["notrack"]
            if family in ("ip", "inet"):
                options += ["ip dscp set cs1", "ip dscp set cs3"]
            if family in ("ip6", "inet") and self.six:
                options += ["ip6 dscp set cs2"]
        return pick.choice(options)

    def _reject(self, family: str) -> str:
        pick = self.random
        options = ["reject", "reject with tcp reset"]
        if family == "ip":
            options += [
                "reject with icmp admin-prohibited",
                "reject with icmp port-unreachable",
                "reject with icmp host-unreachable",
            ]
        elif family == "ip6":
            options += ["reject with icmpv6 admin-prohibited", "reject with icmpv6 no-route"]
        else:
            options += [
                "reject with icmpx admin-prohibited",
                "reject with icmpx no-route",
                "reject with icmpx host-unreachable",
            ]
        return pick.choice(options)

    def _rule(self, family: str, hook: str, targets: list[str], has_map: bool) -> str:
        matches = [self._match(family) for _ in range(self.random.choice((0, 1, 1, 1, 2)))]
        if len(matches) == 2 and matches[0].split()[:2] == matches[1].split()[:2]:
            # nft 1.0.6 prints two comparisons of one field as one range, "< 100" and "> 500" as "!= 100-500".
            del matches[1]
        middle = ["counter"] if self.chance(0.2) else []
        return " ".join([*matches, *middle, self._statement(family, hook, targets, has_map)])

    def _nat_table(self, family: str) -> None:
        pick, add = self.random, self.lines.append
        name = f"nat{family}"
        add(f"add table {family} {name}")
        for hook, priority in (("prerouting", -100), ("output", -100), ("postrouting", 100), ("input", 100)):
            if self.chance(0.75):
                add(
                    f"add chain {family} {name} {hook[:4]} {{ type nat hook {hook} priority {priority}; policy accept; }}"
                )
                for _ in range(pick.randint(1, 3)):
                    match = self._match(family) if self.chance(0.8) else ""
                    add(f"add rule {family} {name} {hook[:4]} {match} {self._translation(family, hook)}")

    def _translation(self, family: str, hook: str) -> str:
        pick = self.random
        six = family == "ip6"
        if hook in ("prerouting", "output"):
            target = pick.choice(
                ("fd00::99", "fd00:1::99", "fd09:8:0:1::99")
                if six
                else ("10.0.0.99", "10.1.0.99", "10.9.8.99")
            )
            words = "dnat" if family != "inet" else "dnat ip"
            port = f"meta l4proto {{ tcp, udp }} {words} to " + (
                f"[{target}]:8080" if six else f"{target}:8080"
            )
            return pick.choice(
                (
                    f"{words} to {target}",
                    f"{words} to {target}",
                    port,
                    "redirect",
                    "meta l4proto udp redirect to :5353",
                )
            )
        source = pick.choice(("fd00::1", "fd00:1::1") if six else ("10.0.0.1", "10.1.0.1"))
        words = "snat" if family != "inet" else "snat ip"
        if hook == "postrouting":
            return pick.choice((f"{words} to {source}", "masquerade"))
        return f"{words} to {source}"


def nft_lines(random: Random, names: list[str], *, six: bool, nat: bool) -> list[str]:
    """Commands for nft(8), each valid on its own after those before it."""
    return Rules(random, names, six=six, nat=nat).draw()
