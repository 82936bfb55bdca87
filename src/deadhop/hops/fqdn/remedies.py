"""What would have allowed a connection: the world changed in one respect, replayed, and kept where it helps.

Kinds: ``intercept`` (a DNS rule, so that answers are seen), ``dns-rule`` (the refused name), ``ask-for-addresses`` (the
client asks A for the name it means instead of its CNAME), ``selector`` (the name under which the address is known),
``wider-pattern`` (whole labels instead of one), ``min-ttl`` (keep a lookup until the connection).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from deadhop.fqdn.dns_rules import WILDCARD_RULE
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.node import QueryOutcome
from deadhop.fqdn.options import V1_19
from deadhop.fqdn.patterns import PatternError
from deadhop.fqdn.policy import OPEN, DNSAllow, EgressPolicy, FQDNAllow, PortSpec
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.fqdn.replay import Connect, Decision, Query, Replay, World, replay
from deadhop.model.dns import RR, Message, Question


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """A change that allows the connection. ``world`` is the changed world, ``after`` the decision in it."""

    kind: str
    text: str
    world: World
    after: Decision


def with_policy(world: World, endpoint: str, policy: EgressPolicy) -> World:
    """The world with another policy for one endpoint."""
    return msgspec.structs.replace(world, policies={**world.policies, endpoint: policy})


def with_selector(world: World, endpoint: str, selector: FQDNSelector) -> World:
    """The world where the endpoint's policy has one selector more, on the ports of its other selectors."""
    policy = world.policies.get(endpoint, OPEN)
    ports = policy.fqdns[0].ports if policy.fqdns else ()
    more = FQDNAllow(selectors=(selector,), ports=ports)
    return with_policy(world, endpoint, msgspec.structs.replace(policy, fqdns=(*policy.fqdns, more)))


def with_dns_rule(world: World, endpoint: str, rule: FQDNSelector, port: int = 53) -> World:
    """The world where the endpoint's policy has one DNS rule more; its plain DNS allows become intercepted."""
    policy = world.policies.get(endpoint, OPEN)
    dns = tuple(
        msgspec.structs.replace(allow, rules=(*(allow.rules or ()), rule))
        for allow in policy.dns
        if any(spec.port == port for spec in allow.ports)
    )
    kept = tuple(a for a in policy.dns if not any(spec.port == port for spec in a.ports))
    dns = dns or (DNSAllow(ports=(PortSpec(port),), rules=(rule,)),)
    return with_policy(world, endpoint, msgspec.structs.replace(policy, dns=(*kept, *dns)))


def with_addresses_asked(world: World, connect: Connect) -> World:
    """The world where the client asks A (or AAAA) for the name it means, and is told the address that it dials."""
    rtype = "AAAA" if ":" in connect.ip else "A"
    name = fqdn(connect.name)
    like = next((q for q in world.queries if q.endpoint == connect.endpoint), None)
    ttls = [rr.ttl for q in world.queries if q.answer for rr in q.answer.answers if rr.data == connect.ip]
    answer = Message(
        response=True,
        questions=(Question(name, rtype),),
        answers=(RR(name, max(ttls, default=30), rtype, connect.ip),),
    )
    query = Query(
        at=connect.at,
        endpoint=connect.endpoint,
        name=name,
        type=rtype,
        server=like.server if like else "",
        port=like.port if like else 53,
        protocol=like.protocol if like else "UDP",
        answer=answer,
    )
    return msgspec.structs.replace(world, queries=(*world.queries, query))


def with_min_ttl(world: World, seconds: int) -> World:
    """The world with another ``tofqdns-min-ttl``."""
    return msgspec.structs.replace(
        world, options=msgspec.structs.replace(world.effective_options, min_ttl=seconds)
    )


def _candidates(world: World, place: int) -> Iterator[tuple[str, str, World]]:
    connect = world.connects[place]
    endpoint = connect.endpoint
    policy = world.policies.get(endpoint, OPEN)
    run = Replay(world)
    before = run.run()[place]
    asked = [
        (number, q) for number, q in enumerate(world.queries) if q.endpoint == endpoint and q.at <= connect.at
    ]
    teaching = [
        (number, q)
        for number, q in asked
        if q.answer and any(rr.data == connect.ip for rr in q.answer.answers)
    ]
    outcomes = {run.outcomes[number] for number, _ in asked}
    if outcomes & {QueryOutcome.UNSEEN, QueryOutcome.DROPPED}:
        port = next((q.port for number, q in asked if run.outcomes[number] is not QueryOutcome.FORWARDED), 53)
        changed = with_dns_rule(world, endpoint, WILDCARD_RULE, port)
        yield (
            "intercept",
            f'rules.dns with matchPattern "*" on port {port}, so that answers are learned',
            changed,
        )
    for number, query in teaching:
        if run.outcomes[number] is QueryOutcome.REJECTED:
            rule = FQDNSelector(match_name=query.name.rstrip("."))
            text = f"rules.dns: matchName {rule.match_name}, which the proxy refused"
            yield "dns-rule", text, with_dns_rule(world, endpoint, rule, query.port)
    if connect.name and not any(fqdn(q.name) == fqdn(connect.name) for _, q in teaching):
        text = f"the client asks for the addresses of {connect.name} itself instead of following its CNAMEs"
        yield "ask-for-addresses", text, with_addresses_asked(world, connect)
    for selector in policy.selectors:
        one_label = selector.match_pattern.startswith("*.") and not selector.match_pattern.startswith("**")
        if one_label and world.version >= V1_19:
            wider = FQDNSelector(match_pattern=f"*{selector.match_pattern}")
            text = f"toFQDNs: matchPattern {wider.match_pattern} for names of any depth"
            yield "wider-pattern", text, with_selector(world, endpoint, wider)
    names = dict.fromkeys([*before.names, *(fqdn(q.name) for _, q in teaching)])
    for name in names:
        chosen = FQDNSelector(match_name=name.rstrip("."))
        if chosen not in policy.selectors:
            text = f"toFQDNs: matchName {chosen.match_name}, the name under which the address is learned"
            yield "selector", text, with_selector(world, endpoint, chosen)
    for _, query in teaching:
        needed = int(connect.at - query.at) + 1
        if needed > world.effective_options.min_ttl:
            yield "min-ttl", f"tofqdns-min-ttl of at least {needed} s", with_min_ttl(world, needed)


def remedies(world: World, place: int) -> tuple[Remedy, ...]:
    """The single changes under which the connection at ``place`` of ``world.connects`` is allowed."""
    before = replay(world)[place]
    if before.allowed:
        return ()
    found: list[Remedy] = []
    for kind, text, changed in _candidates(world, place):
        try:
            after = replay(changed)[place]
        except PatternError:
            continue
        if after.allowed:
            found.append(Remedy(kind=kind, text=text, world=changed, after=after))
    return tuple(found)
