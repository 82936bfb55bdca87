"""The table that enforces policy, as text for one nft transaction that replaces the one before it.

A packet of an endpoint passes ``to_proxy`` (DNS that policy inspects goes to the proxy's socket by TPROXY, after
service translation) and ``egress`` (forward and input: source address, established connections, then the chain of
the endpoint's policy). A policy's chain denies, guards the DNS that only the proxy may forward, allows what is
static, and allows learned addresses: a set for each port specification of its ``toFQDNs`` rules. TPROXY and not
REDIRECT, because the latter needs an address on the input device. Elements carry a timeout as a lease: they end by
themselves where no agent is left to remove them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from deadhop.agent.compile import Compiled, Ports, Reach
from deadhop.agent.endpoints import Endpoint
from deadhop.agent.ranges import text_of

TABLE = "deadhop_fqdn"
MARK, MASK = 0x200, 0xF00
"""Cilium's mark for packets to a proxy, and its mask (``pkg/datapath/linux/linux_defaults``)."""
LONGEST_LEASE = 20 * 86400
"""Seconds. nft holds milliseconds in 31 bits, a TTL may be 68 years; the table is made anew each day."""
LOG_GROUP = 2053
LOG_RATE = 200
LOG_DENIED, LOG_DENY_RULE, LOG_L3, LOG_L3_L4 = "denied", "deny-rule", "allowed:L3", "allowed:L3-L4"

#: Why packets of endpoints were dropped: counter name and what it counts.
DROPS: dict[str, str] = {
    "policy_denied": "no egress rule allows the destination",
    "deny_rule": "an egressDeny rule names the destination",
    "invalid_source": "the source address is not one of the endpoint's",
    "proxy_down": "DNS that policy inspects, while no proxy listens",
}
_ND = "{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-report, mld2-listener-report }"


class LearnedSet(msgspec.Struct, frozen=True):
    """The set of learned addresses of one port specification of one policy; ``_4`` and ``_6`` are appended."""

    name: str
    ports: Ports
    labels: frozenset[str]


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Which policies there are, who has them, and their learned sets."""

    endpoints: tuple[Endpoint, ...]
    policies: tuple[Compiled, ...]
    of_endpoint: Mapping[str, int]
    sets: tuple[tuple[LearnedSet, ...], ...]


def layout(endpoints: Sequence[Endpoint], compiled: Mapping[str, Compiled]) -> Layout:
    """Number the distinct policies; endpoints that no policy selects have none."""
    policies: list[Compiled] = []
    of_endpoint: dict[str, int] = {}
    for endpoint in endpoints:
        policy = compiled.get(endpoint.name)
        if policy is None or not (policy.enforced or policy.redirects or policy.denies):
            continue
        place = next((n for n, known in enumerate(policies) if known is policy), None)
        if place is None:
            place = len(policies)
            policies.append(policy)
        of_endpoint[endpoint.name] = place
    sets = tuple(
        tuple(
            LearnedSet(f"p{number}_f{place}", ports, labels)
            for place, (ports, labels) in enumerate(policy.fqdn_ports)
        )
        for number, policy in enumerate(policies)
    )
    return Layout(
        endpoints=tuple(e for e in endpoints if e.local),
        policies=tuple(policies),
        of_endpoint=of_endpoint,
        sets=sets,
    )


def replace(
    plan: Layout,
    *,
    port: int,
    counters: Mapping[str, tuple[int, int]],
    elements: Mapping[str, Mapping[str, float]],
) -> str:
    """The transaction. ``elements`` by set name: address to seconds that it stays; ``counters`` continue as given."""
    out = [f"table inet {TABLE} {{"]
    for name in DROPS:
        packets, octets = counters.get(name, (0, 0))
        out.append(f" counter {name} {{ packets {packets} bytes {octets} }}")
    devices = sorted({e.device for e in plan.endpoints if e.name in plan.of_endpoint})
    out += _set("pods", "ifname", (f'"{device}"' for device in devices))
    for version in (4, 6):
        kind = f"ipv{version}_addr"
        owners = [(e, ip) for e in plan.endpoints for ip in e.addresses if (":" in ip) == (version == 6)]
        enforced = [(e, ip) for e, ip in owners if e.name in plan.of_endpoint]
        out += _set(f"owner_{version}", f"ifname . {kind}", (f'"{e.device}" . {ip}' for e, ip in owners))
        jumps = ", ".join(f"{ip} : jump policy_{plan.of_endpoint[e.name]}" for e, ip in enforced)
        for number, policy in enumerate(plan.policies):
            out += _policy_sets(number, policy, version)
            for learned in plan.sets[number]:
                out += _learned_set(f"{learned.name}_{version}", kind, elements)
        redirects = [
            f"{ip} . {target}"
            for e, ip in enforced
            for target in _targets(plan.policies[plan.of_endpoint[e.name]].redirects, version)
        ]
        out += _set(
            f"redirect_{version}", f"{kind} . {kind} . inet_proto . inet_service", redirects, "interval"
        )
        out.append(f" map policies_{version} {{ type {kind} : verdict")
        out.append(f"  elements = {{ {jumps} }}\n }}" if jumps else " }")
    for number, policy in enumerate(plan.policies):
        out += _policy_chain(number, policy, plan.sets[number])
    out += _hooks(port)
    out.append("}")
    # The chains that verdict maps jump to must stand before the maps.
    fresh = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
    chains = [f"add chain inet {TABLE} policy_{number}" for number in range(len(plan.policies))]
    return "\n".join([*fresh, *chains, *out]) + "\n"


def _set(name: str, kind: str, elements: Iterable[str], flags: str = "") -> list[str]:
    listed = ", ".join(dict.fromkeys(elements))
    head = f" set {name} {{ type {kind}" + (f"; flags {flags}" if flags else "")
    return [head, f"  elements = {{ {listed} }}", " }"] if listed else [head, " }"]


def _learned_set(name: str, kind: str, elements: Mapping[str, Mapping[str, float]]) -> list[str]:
    items = (f"{ip} timeout {lease_seconds(left)}s" for ip, left in elements.get(name, {}).items())
    return _set(name, kind, items, "timeout")


def lease_seconds(seconds: float) -> int:
    """A timeout as the kernel gets it, in whole seconds upwards, within what it can hold."""
    return max(1, int(min(seconds, LONGEST_LEASE) + 0.999))


def _policy_sets(number: int, policy: Compiled, version: int) -> list[str]:
    out: list[str] = []
    kind = f"ipv{version}_addr"
    for name, reaches in (("allow", policy.allows), ("deny", policy.denies), ("dns", policy.redirects)):
        whole = [text for r in reaches if r.ports is None for text in text_of(r.of(version), version)]
        if whole:
            out += _set(f"p{number}_{name}_any_{version}", kind, whole, "interval; auto-merge")
        some = list(_targets([r for r in reaches if r.ports is not None], version))
        if some:
            set_kind = f"{kind} . inet_proto . inet_service"
            out += _set(f"p{number}_{name}_{version}", set_kind, some, "interval")
    return out


def _targets(reaches: Iterable[Reach], version: int) -> list[str]:
    return [
        f"{addresses} . {protocol.lower()} . {_port_text(ports)}"
        for reach in reaches
        for addresses in text_of(reach.of(version), version)
        for protocol, ports in reach.ports or ()
    ]


def _port_text(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


def _matches(number: int, policy: Compiled, name: str) -> list[str]:
    """Rule heads that match the destinations of one kind of a policy."""
    reaches = {"allow": policy.allows, "deny": policy.denies, "dns": policy.redirects}[name]
    heads = []
    for version, keyword in ((4, "ip"), (6, "ip6")):
        if any(r.ports is None and r.of(version) for r in reaches):
            heads.append(f"{keyword} daddr @p{number}_{name}_any_{version}")
        if any(r.ports and r.of(version) for r in reaches):
            heads.append(f"{keyword} daddr . meta l4proto . th dport @p{number}_{name}_{version}")
    return heads


def _policy_chain(number: int, policy: Compiled, sets: Sequence[LearnedSet]) -> list[str]:
    out = [f" chain policy_{number} {{"]
    out += [f"  {m} {_log(LOG_DENY_RULE)}" for m in _matches(number, policy, "deny")]
    out += [f"  {m} counter name deny_rule drop" for m in _matches(number, policy, "deny")]
    out += [f"  {m} counter name proxy_down drop" for m in _matches(number, policy, "dns")]
    if not policy.enforced:
        return [*out, "  accept", " }"]
    out += [f"  {m} accept" for m in _matches(number, policy, "allow")]
    for learned in sets:
        ports = _anonymous(learned.ports)
        for version, keyword in ((4, "ip"), (6, "ip6")):
            head = f"  {keyword} daddr @{learned.name}_{version}{ports}"
            out += [f"{head} {_log(LOG_L3_L4 if learned.ports else LOG_L3)}", f"{head} accept"]
    return [*out, f"  {_log(LOG_DENIED)}", "  counter name policy_denied drop", " }"]


def _log(prefix: str) -> str:
    return f'limit rate {LOG_RATE}/second burst {LOG_RATE} packets log prefix "{prefix}" group {LOG_GROUP} snaplen 96'


def _anonymous(ports: Ports) -> str:
    if ports is None:
        return ""
    items = ", ".join(f"{protocol.lower()} . {_port_text(numbers)}" for protocol, numbers in ports)
    return f" meta l4proto . th dport {{ {items} }}"


def _hooks(port: int) -> list[str]:
    mark = f"meta mark set meta mark and {0xFFFFFFFF ^ MASK:#x} or {MARK:#x}"
    tproxy = [
        f"  iifname @pods meta l4proto {{ tcp, udp }} {key} saddr . {key} daddr . meta l4proto . th dport "
        f"@redirect_{version} tproxy {key} to {where}:{port} {mark} accept"
        for version, key, where in ((4, "ip", "127.0.0.1"), (6, "ip6", "[::1]"))
    ]
    return [
        " chain to_proxy { type filter hook prerouting priority dstnat + 10; policy accept",
        # An endpoint may not use another's address to have its queries judged by the other's policy.
        "  iifname @pods meta nfproto ipv4 iifname . ip saddr != @owner_4 counter name invalid_source drop",
        "  iifname @pods meta nfproto ipv6 icmpv6 type " + _ND + " accept",
        "  iifname @pods meta nfproto ipv6 iifname . ip6 saddr != @owner_6 counter name invalid_source drop",
        *tproxy,
        # ICMP errors about the proxy's own packets, too: refused ports, and sizes that do not fit the path.
        f"  meta l4proto {{ tcp, udp, icmp, ipv6-icmp }} socket transparent 1 socket wildcard 0 {mark} accept",
        " }",
        " chain egress {",
        "  ct state established,related accept",
        "  ip saddr vmap @policies_4",
        "  ip6 saddr vmap @policies_6",
        " }",
        " chain forward { type filter hook forward priority filter; policy accept",
        "  iifname @pods jump egress",
        " }",
        " chain input { type filter hook input priority filter; policy accept",
        f"  meta mark and {MASK:#x} == {MARK:#x} accept",
        "  meta nfproto ipv6 icmpv6 type " + _ND + " accept",
        "  iifname @pods jump egress",
        " }",
    ]
