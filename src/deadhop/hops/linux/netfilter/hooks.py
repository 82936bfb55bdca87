"""The order of everything registered at a netfilter hook, and the run through it (nf_hook_slow).

Hooks run by priority; of equal priority the one registered last runs first (nf_hook_entries_grow). Base chains
register when they are created, so the listing's order tells theirs. NAT chains run inside the NAT core's own hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from deadhop.hops.linux.errors import EPERM, ERRNO, Ended, Unknown
from deadhop.hops.linux.netfilter import nat
from deadhop.hops.linux.netfilter.conntrack import Known, track
from deadhop.hops.linux.netfilter.iptables import LegacyTable, legacy_tables
from deadhop.hops.linux.netfilter.nft import Chain, Ruleset
from deadhop.hops.linux.netfilter.reroute import reroute
from deadhop.hops.linux.netfilter.state import HookState
from deadhop.hops.linux.netfilter.verdicts import Rejected, Verdict
from deadhop.hops.linux.packet import Packet
from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketAnswer
from deadhop.model.trace import Disposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from deadhop.hops.linux.context import Walk
    from deadhop.hops.linux.world import World

    Hook = Callable[[Walk, Packet, str], None]

DEFRAG, CONNTRACK, NAT_DST, NAT_SRC = -400, -200, -100, 100
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
#: nft families that see a packet of an IP version at these hooks.
FAMILIES = {4: ("ip", "inet"), 6: ("ip6", "inet")}
#: What makes a ruleset load connection tracking.
TRACKING = ("ct", "notrack", "snat", "dnat", "masquerade", "redirect", "flow", "synproxy")


def compile_hooks(world: World) -> dict[tuple[int, str], list[Hook]]:
    """All hooks of a namespace; raises :class:`Unknown` where no listing tells the rules."""
    ns = world.ns
    if ns.nft is None and ns.iptables is None:
        raise Unknown("netfilter rules (nft -j list ruleset, iptables-save)")
    rules, tables = _sources(ns)
    known = Known(ns.conntrack or ())
    compiled: dict[tuple[int, str], list[Hook]] = {}
    for version in (4, 6):
        tracked = _tracks(rules, version) or any(t.tracks for t in tables if t.version == version)
        for hook in HOOKS:
            compiled[version, hook] = _at(version, hook, rules, tables, known, tracked)
    return compiled


def _sources(ns: NetNamespace) -> tuple[Ruleset | None, list[LegacyTable]]:
    """The nft ruleset and the iptables tables, neither holding the other's: tables of iptables-nft whose rules nft can
    only print as ``xt`` are taken from iptables-save."""
    tables = legacy_tables(ns.iptables or ())
    if ns.nft is None:
        return None, tables
    opaque = {
        (rule.family, rule.table)
        for rule in ns.nft.rules
        if any(isinstance(body, dict) and "xt" in body for body in rule.expr)
    }
    mirrored = {(t.nft_family, t.name) for t in tables if t.backend == "nft"}
    shown = {(t.family, t.name) for t in ns.nft.tables}
    kept = [
        t
        for t in tables
        if t.backend != "nft" or (t.nft_family, t.name) in opaque or (t.nft_family, t.name) not in shown
    ]
    hidden = opaque & mirrored
    if hidden:
        nft = msgspec.structs.replace(
            ns.nft,
            chains=tuple(c for c in ns.nft.chains if (c.family, c.table) not in hidden),
            rules=tuple(r for r in ns.nft.rules if (r.family, r.table) not in hidden),
        )
        return Ruleset(nft), kept
    return Ruleset(ns.nft), kept


def _tracks(rules: Ruleset | None, version: int) -> bool:
    if rules is None:
        return False
    for chain in rules.chains.values():
        if chain.chain.family not in FAMILIES[version]:
            continue
        if chain.chain.type == "nat":
            return True
        if any(_mentions(body) for rule in chain.rules for body in rule.rule.expr):
            return True
    return False


def _mentions(body: Any) -> bool:
    if isinstance(body, dict):
        return any(key in TRACKING or _mentions(value) for key, value in body.items())
    return isinstance(body, list) and any(_mentions(item) for item in body)


def _at(
    version: int, hook: str, rules: Ruleset | None, tables: list[LegacyTable], known: Known, tracked: bool
) -> list[Hook]:
    entries: list[tuple[int, int, Hook]] = []
    translators: list[tuple[int, int, Callable[[Packet, HookState], Verdict]]] = []
    order = 0
    for table in tables:
        if table.version != version or not table.has(hook):
            continue
        order -= 1
        run = table.runner(hook)
        if table.name == "nat":
            translators.append((table.priority(hook), order, run))
        else:
            entries.append(
                (
                    table.priority(hook),
                    order,
                    _filter(run, reroutes=table.name == "mangle" and hook == "output"),
                )
            )
    for chain in rules.chains.values() if rules is not None else ():
        base = chain.chain
        if base.hook != hook or base.family not in FAMILIES[version]:
            continue
        if "dormant" in _flags(rules, chain):
            continue
        order -= 1
        run = _runner(rules, chain)
        if base.type == "nat":
            translators.append((base.prio, order, run))
        else:
            entries.append(
                (base.prio, order, _filter(run, reroutes=base.type == "route" and hook == "output"))
            )
    if tracked and hook == "prerouting":
        entries.append((DEFRAG, 0, _defrag))
    if tracked and hook in ("prerouting", "output"):
        entries.append((CONNTRACK, 0, lambda walk, packet, _hook: track(walk, packet, known)))
    if tracked and hook in nat.MANIP:
        chosen = [run for _, _, run in sorted(translators, key=lambda item: item[:2])]
        place = NAT_DST if nat.MANIP[hook] == "dst" else NAT_SRC
        if _translates(version, rules, tables) or known.by_tuple:
            entries.append((place, 0, _translator(chosen)))
    return [entry[2] for entry in sorted(entries, key=lambda item: item[:2])]


def _defrag(walk: Walk, packet: Packet, _hook: str) -> None:
    """ipv4_conntrack_defrag: rules behind it see whole datagrams; a later fragment ends in its datagram here."""
    if packet.frag:
        walk.deliver("ip_defrag")
    packet.defragment()


def _translates(version: int, rules: Ruleset | None, tables: list[LegacyTable]) -> bool:
    """Whether the NAT core is registered: the first NAT chain of a family registers all four of its hooks."""
    if any(table.name == "nat" and table.version == version for table in tables):
        return True
    chains = rules.chains.values() if rules is not None else ()
    return any(c.chain.type == "nat" and c.chain.family in FAMILIES[version] for c in chains)


def _flags(rules: Ruleset | None, chain: Chain) -> tuple[str, ...]:
    return rules.table_flags.get((chain.chain.family, chain.chain.table), ()) if rules is not None else ()


def _runner(rules: Ruleset | None, chain: Chain) -> Callable[[Packet, HookState], Verdict]:
    assert rules is not None
    return lambda packet, state: rules.run(chain, packet, state)


def _filter(run: Callable[[Packet, HookState], Verdict], *, reroutes: bool) -> Hook:
    def hook(walk: Walk, packet: Packet, name: str) -> None:
        before = (packet.src, packet.dst, packet.mark, packet.tos) if reroutes else None
        verdict = run(packet, HookState(walk, name))
        _finish(walk, packet, name, verdict)
        if before is not None and before != (packet.src, packet.dst, packet.mark, packet.tos):
            reroute(walk, packet)

    return hook


def _translator(chains: list[Callable[[Packet, HookState], Verdict]]) -> Hook:
    """nf_nat_inet_fn: the first packet of a connection asks the chains, every packet is translated."""

    def hook(walk: Walk, packet: Packet, name: str) -> None:
        connection = packet.conn
        if connection is None or not packet.tracked:
            return
        manip = nat.MANIP[name]
        settled: set[str] = connection.settled  # type: ignore[attr-defined]
        if manip not in settled and not packet.error:
            state = HookState(walk, name)
            for run in chains:
                _finish(walk, packet, name, run(packet, state))
                if manip in settled:
                    break
            settled.add(manip)
        before = str(packet)
        if nat.translate(packet, name) and name == "output":
            reroute(walk, packet)
        if str(packet) != before:
            walk.step("NAT", f"{before} becomes {packet}", "nf_nat_packet", hook=name)

    return hook


def _finish(walk: Walk, packet: Packet, hook: str, verdict: Verdict) -> None:
    if verdict.kind != "drop":
        return
    told = verdict if isinstance(verdict, Rejected) else None
    local = packet.iif is None and hook in ("output", "postrouting")
    counters = ("Ip:OutDiscards" if packet.version == 4 else "Ip6OutDiscards",) if hook == "output" else ()
    if local or told is None or not (told.icmp or told.tcp_reset):
        raise Ended(
            PacketAnswer(
                disposition=Disposition.DROPPED,
                reason="NETFILTER_DROP",
                errno=ERRNO[EPERM] if local else "",
                function="nft_do_chain",
                counters=counters,
            )
        )
    walk.drop("NETFILTER_DROP", "nft_do_chain", counters, told.icmp, tcp_reset=told.tcp_reset)
