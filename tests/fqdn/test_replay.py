"""Connections judged: from a listing, from a replay, and what would have allowed them."""

from __future__ import annotations

import time

import msgspec
import pytest

from deadhop.fqdn.options import LATEST, V1_13, V1_18
from deadhop.fqdn.policy import CIDRAllow, DNSAllow, EgressPolicy, FQDNAllow
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.fqdn import (
    Connect,
    ConntrackPass,
    Decision,
    Known,
    Query,
    World,
    decide,
    remedies,
    replay,
    trace_of,
)
from deadhop.hops.resolver import KONG, Ask, KongState, Profile, Reply, conf_from_options, resolve
from deadhop.model.dns import RR, Message, Question
from deadhop.model.trace import Disposition

LOGIN = "login.acme.test"
CHAIN = {"login.acme.test.": "edge.acme.test.", "edge.acme.test.": "balancer.test."}
ADDRESS = "203.0.113.9"
ANY_NAME = DNSAllow(rules=(FQDNSelector(match_pattern="*"),))


def policy(*selectors: FQDNSelector, dns: tuple[DNSAllow, ...] = (ANY_NAME,)) -> EgressPolicy:
    return EgressPolicy(dns=dns, fqdns=(FQDNAllow(selectors=selectors),))


def name(text: str) -> FQDNSelector:
    return FQDNSelector(match_name=text)


def pattern(text: str) -> FQDNSelector:
    return FQDNSelector(match_pattern=text)


def recursive(ask: Ask) -> Reply:
    """A recursive server for the chain: all of it for A, one link for CNAME."""
    if ask.name not in CHAIN and ask.name != "balancer.test.":
        return Reply("NXDOMAIN")
    if ask.type == "CNAME":
        return Reply(answers=(RR(ask.name, 30, "CNAME", CHAIN[ask.name]),) if ask.name in CHAIN else ())
    at, answers = ask.name, []
    while at in CHAIN:
        answers.append(RR(at, 30, "CNAME", CHAIN[at]))
        at = CHAIN[at]
    if ask.type == "A":
        answers.append(RR(at, 60, "A", ADDRESS))
    return Reply(answers=tuple(answers))


def query(qname: str, at: float = 0, qtype: str = "A", endpoint: str = "gateway") -> Query:
    reply = recursive(Ask(qname, qtype))
    answer = Message(
        response=True,
        rcode=3 if reply.rcode == "NXDOMAIN" else 0,
        questions=(Question(qname, qtype),),
        answers=reply.answers,
    )
    return Query(at=at, endpoint=endpoint, name=qname, type=qtype, answer=answer)


def gateway(order: tuple[str, ...], *selectors: FQDNSelector) -> World:
    """The queries that a gateway with this order really sends, and the connection that follows."""
    client = Profile(name="kong", resolver="kong", types=(), dns_order=order)
    conf = conf_from_options(["10.96.0.10"], ["apps.svc.cluster.local", "svc.cluster.local"], ["ndots:5"])
    state = KongState(last={**dict.fromkeys(CHAIN, "CNAME"), "balancer.test.": "A"})
    sent = resolve(client, conf, LOGIN, recursive, state)[0].sent
    return World(
        policies={"gateway": policy(*selectors)},
        queries=tuple(query(s.name, at=n / 1000, qtype=s.type) for n, s in enumerate(sent)),
        connects=(Connect(at=1, endpoint="gateway", ip=ADDRESS, port=443, name=LOGIN),),
    )


def one(world: World) -> Decision:
    return replay(world)[0]


def test_a_cname_first_gateway_is_denied_and_the_same_with_a_first_passes() -> None:
    denied = one(gateway(KONG.dns_order, pattern(LOGIN)))
    assert denied.allowed is False
    assert denied.names == ("balancer.test.",)
    assert trace_of(denied).disposition is Disposition.DROPPED
    allowed = one(gateway(("A", "CNAME", "LAST", "SRV"), pattern(LOGIN)))
    assert allowed.allowed is True
    assert allowed.names == ("login.acme.test.",)
    assert allowed.until == pytest.approx(30, abs=0.1)
    assert trace_of(allowed).disposition is Disposition.FORWARDED


def test_what_would_have_allowed_the_gateway() -> None:
    found = {remedy.kind: remedy for remedy in remedies(gateway(KONG.dns_order, pattern(LOGIN)), 0)}
    assert set(found) == {"ask-for-addresses", "selector"}
    assert found["ask-for-addresses"].after.names == ("login.acme.test.",)
    assert "balancer.test" in found["selector"].text
    assert remedies(gateway(("A",), pattern(LOGIN)), 0) == ()


def world(
    allowed: EgressPolicy, *queries: Query, at: float = 10, meant: str = LOGIN, endpoint: str = "gateway"
) -> World:
    connect = Connect(at=at, endpoint=endpoint, ip=ADDRESS, port=443, name=meant)
    return World(policies={"gateway": allowed}, queries=queries, connects=(connect,))


def kinds(made: World) -> set[str]:
    return {remedy.kind for remedy in remedies(made, 0)}


def test_dns_that_is_not_intercepted() -> None:
    unseen = world(policy(name(LOGIN), dns=(DNSAllow(),)), query("login.acme.test."))
    assert one(unseen).allowed is False
    assert kinds(unseen) == {"intercept"}
    dropped = world(policy(name(LOGIN), dns=()), query("login.acme.test."))
    assert kinds(dropped) == {"intercept"}


def test_a_refused_name() -> None:
    strict = policy(pattern("*.acme.test"), dns=(DNSAllow(rules=(name("other.test"),)),))
    refused = world(strict, query("login.acme.test."))
    assert one(refused).allowed is False
    assert kinds(refused) == {"dns-rule"}


def test_one_label_patterns_are_widened_since_1_19() -> None:
    made = world(policy(pattern("*.test")), query("login.acme.test."))
    assert one(made).allowed is False
    assert kinds(made) == {"wider-pattern", "selector"}
    assert kinds(msgspec.structs.replace(made, version=V1_18)) == {"selector"}
    wide = msgspec.structs.replace(made, policies={"gateway": policy(pattern("**.test"))})
    assert one(wide).allowed is True
    assert one(msgspec.structs.replace(wide, version=V1_18)).allowed is False


def test_expired_lookups_are_open_without_conntrack_and_closed_with_it() -> None:
    late = world(policy(name(LOGIN)), query("login.acme.test."), at=500)
    decision = one(late)
    assert decision.allowed is None
    assert trace_of(decision).disposition is Disposition.UNKNOWN
    passes = tuple(ConntrackPass(at=at) for at in (100, 200, 300))
    gone = msgspec.structs.replace(late, passes=passes)
    assert one(gone).allowed is False
    assert kinds(gone) == {"min-ttl"}
    held = tuple(ConntrackPass(at=at, live=(("gateway", ADDRESS),)) for at in (100, 200, 300, 400))
    assert one(msgspec.structs.replace(late, passes=held)).allowed is True
    hour = msgspec.structs.replace(late, version=V1_13)
    assert one(hour).allowed is True


def test_nodes_do_not_share() -> None:
    other = Connect(at=1, endpoint="other", ip=ADDRESS)
    shared = World(
        policies={"gateway": policy(name(LOGIN)), "other": policy(name(LOGIN))},
        queries=(query("login.acme.test."),),
        connects=(other,),
    )
    assert one(shared).allowed is True
    assert one(msgspec.structs.replace(shared, nodes={"other": "node-2"})).allowed is False
    assert one(msgspec.structs.replace(shared, nodes={"other": "node-2"}, complete=False)).allowed is None


def test_cidrs_pods_and_endpoints_without_policy() -> None:
    cidr = EgressPolicy(cidrs=(CIDRAllow(cidr="203.0.113.0/24"),))
    assert one(world(cidr)).cidr == "203.0.113.0/24"
    assert one(world(cidr, endpoint="free")).allowed is True
    pods = msgspec.structs.replace(
        world(policy(name(LOGIN)), query("login.acme.test.")), cluster_addresses=(ADDRESS,)
    )
    assert "pod" in one(pods).because
    odd = msgspec.structs.replace(pods, connects=(Connect(at=1, endpoint="gateway", ip="nonsense"),))
    assert one(odd).allowed is None


def test_a_wild_clock_costs_no_time() -> None:
    started = time.process_time()
    assert one(world(policy(name(LOGIN)), query("login.acme.test.", at=-1e12), at=1e12)).allowed is None
    assert time.process_time() - started < 1


def test_from_a_listing() -> None:
    rows = [
        Known(name="balancer.test.", ips=(ADDRESS,), until=50),
        Known(name="Login.acme.test", ips=("203.0.113.10",), until=50),
        Known(name="old.acme.test", ips=("203.0.113.11",), until=5),
        Known(name="kept.acme.test", ips=("203.0.113.12",), until=5, connection=True),
    ]

    def judge(ip: str, *, complete: bool = True) -> Decision:
        made = Connect(at=10, endpoint="gateway", ip=ip)
        return decide([pattern("*.acme.test")], rows, made, LATEST, complete=complete)

    assert judge(ADDRESS).allowed is False
    assert judge(ADDRESS).names == ("balancer.test.",)
    assert judge(ADDRESS, complete=False).allowed is None
    assert judge("203.0.113.10").allowed is True
    assert judge("203.0.113.11").allowed is None
    assert judge("203.0.113.12").allowed is True
    assert judge("203.0.113.99").because == "no name has been learned for the address"
