"""Which questions a lookup becomes, by library and rcode. The glibc and musl lists were seen on the wire."""

from __future__ import annotations

import pytest

from deadhop.hops.resolver import (
    C_ARES,
    GLIBC,
    GO,
    KONG,
    MUSL,
    MUSL_1_2_4,
    Answering,
    Ask,
    KongState,
    Lookup,
    Profile,
    Reply,
    conf_from_options,
    resolve,
)
from deadhop.model.dns import RR, ResolvConf

SEARCH = ("ns.svc.cluster.local", "svc.cluster.local", "cluster.local")
POD = conf_from_options(["10.96.0.10"], SEARCH, ["ndots:5", "attempts:2"])
N1, N2, N3 = (f"api.example.com.{domain}." for domain in SEARCH)
BARE = "api.example.com."


def zone(otherwise: str, **known: str) -> Answering:
    """A server with A records for ``known`` (underscores for dots) and one rcode for all else."""
    names = {name.replace("_", ".") + ".": address for name, address in known.items()}

    def answer(ask: Ask) -> Reply:
        address = names.get(ask.name)
        if address is None:
            return Reply("NOERROR" if otherwise == "NODATA" else otherwise)
        return Reply(answers=(RR(ask.name, 30, "A", address),) if ask.type == "A" else ())

    return answer


KNOWN = {"api_example_com": "192.0.2.7"}


def lookup(
    profile: Profile, otherwise: str, conf: ResolvConf = POD, name: str = "api.example.com", **known: str
) -> Lookup:
    return resolve(profile, conf, name, zone(otherwise, **known))[0]


def names(result: Lookup) -> list[str]:
    """The names asked for as A, in order."""
    return [name for name, rtype in result.questions if rtype == "A"]


@pytest.mark.parametrize(
    "profile, otherwise, asked, error",
    [
        (GLIBC, "NXDOMAIN", [N1, N2, N3, BARE], ""),
        (GLIBC, "NODATA", [N1, N2, N3, BARE], ""),
        (GLIBC, "SERVFAIL", [N1, N1, N2, N2, N3, N3, BARE], ""),
        (GLIBC, "REFUSED", [N1, N1, BARE], ""),
        (GLIBC, "NOTIMP", [N1, N1, BARE], ""),
        (GLIBC, "TIMEOUT", [N1, N1, BARE], ""),
        (MUSL, "NXDOMAIN", [N1, N2, N3, BARE], ""),
        (MUSL, "NODATA", [N1], "EAI_NONAME"),
        (MUSL_1_2_4, "NODATA", [N1], "EAI_NODATA"),
        (MUSL, "REFUSED", [N1, N1], "EAI_AGAIN"),
        (MUSL, "SERVFAIL", [N1] * 6, "EAI_AGAIN"),
        (MUSL, "TIMEOUT", [N1, N1], "EAI_AGAIN"),
        (GO, "NXDOMAIN", [N1, N2, N3, BARE], ""),
        (GO, "NODATA", [N1, N2, N3, BARE], ""),
        (GO, "REFUSED", [N1, N1, N2, N2, N3, N3, BARE], ""),
        (C_ARES, "NXDOMAIN", [N1, N2, N3, BARE], ""),
        (C_ARES, "NODATA", [N1, N2, N3, BARE], ""),
        (C_ARES, "REFUSED", [N1] * 3, "ARES_EREFUSED"),
        (C_ARES, "SERVFAIL", [N1] * 3, "ARES_ESERVFAIL"),
    ],
)
def test_which_rcode_stops_the_search(profile: Profile, otherwise: str, asked: list[str], error: str) -> None:
    result = lookup(profile, otherwise, **KNOWN)
    assert names(result) == asked
    assert result.told.error == error
    assert result.told.addresses == (() if error else ("192.0.2.7",))


@pytest.mark.parametrize(
    "profile, otherwise, error",
    [
        (GLIBC, "NXDOMAIN", "EAI_NONAME"),
        (GLIBC, "NODATA", "EAI_NODATA"),
        (GLIBC, "SERVFAIL", "EAI_AGAIN"),
        (GLIBC, "REFUSED", "EAI_AGAIN"),
        (GLIBC, "FORMERR", "EAI_NONAME"),
        (MUSL, "NXDOMAIN", "EAI_NONAME"),
        (GO, "NXDOMAIN", "no such host"),
        (GO, "REFUSED", "server misbehaving"),
        (GO, "TIMEOUT", "i/o timeout"),
        (C_ARES, "NODATA", "ARES_ENODATA"),
        (C_ARES, "NXDOMAIN", "ARES_ENOTFOUND"),
        (C_ARES, "TIMEOUT", "ARES_ETIMEOUT"),
    ],
)
def test_what_the_application_is_told(profile: Profile, otherwise: str, error: str) -> None:
    assert lookup(profile, otherwise).told.error == error


def test_two_servers() -> None:
    conf = conf_from_options(["10.0.0.1", "10.0.0.2"], SEARCH[:2], ["ndots:5", "attempts:2"])
    glibc = lookup(GLIBC, "REFUSED", conf, **KNOWN)
    assert [(s.server[-1], s.type, s.name == BARE) for s in glibc.sent] == [
        ("1", "A", False),
        ("1", "AAAA", False),
        ("2", "A", False),
        ("2", "AAAA", False),
        ("1", "A", False),
        ("1", "AAAA", False),
        ("2", "A", False),
        ("2", "AAAA", False),
        ("1", "A", True),
        ("1", "AAAA", True),
    ]
    musl = lookup(MUSL, "NXDOMAIN", conf, **KNOWN)
    assert [(s.server[-1], s.type) for s in musl.sent[:4]] == [
        ("1", "A"),
        ("2", "A"),
        ("1", "AAAA"),
        ("2", "AAAA"),
    ]


def test_enough_dots_and_final_dots() -> None:
    conf = conf_from_options(["10.0.0.1"], SEARCH, ["ndots:2"])
    assert names(lookup(GLIBC, "NXDOMAIN", conf)) == [BARE, N1, N2, N3]
    assert names(lookup(GO, "NXDOMAIN", conf)) == [BARE, N1, N2, N3]
    assert names(lookup(C_ARES, "NXDOMAIN", conf)) == [BARE, N1, N2, N3]
    assert names(lookup(MUSL, "NXDOMAIN", conf)) == [BARE]
    for profile in (GLIBC, MUSL, GO, C_ARES, KONG):
        asked = lookup(profile, "NXDOMAIN", name=BARE).questions
        assert {name for name, _ in asked} == {BARE}


def test_a_dot_in_the_search_list() -> None:
    first = conf_from_options(["10.0.0.1"], [".", SEARCH[0]], ["ndots:5"])
    assert names(lookup(GLIBC, "NXDOMAIN", first)) == [BARE, N1]
    assert names(lookup(GO, "NXDOMAIN", first)) == [N1, BARE]
    assert names(lookup(C_ARES, "NXDOMAIN", first)) == [N1, BARE]
    stopped = lookup(MUSL, "NXDOMAIN", first, **KNOWN)
    assert stopped.sent == ()
    assert stopped.told.error == "EAI_AGAIN"
    later = conf_from_options(["10.0.0.1"], [SEARCH[0], "."], ["ndots:5"])
    assert names(lookup(MUSL, "NXDOMAIN", later, **KNOWN)) == [N1]


def test_caps_on_resolv_conf() -> None:
    conf = conf_from_options(
        ["1", "2", "3", "4"], SEARCH, ["ndots:99", "attempts:9", "junk", "ndots:x", "no-aaaa"]
    )
    result = lookup(GLIBC, "TIMEOUT", conf)
    assert {sent.server for sent in result.sent} == {"1", "2", "3"}
    assert {sent.type for sent in result.sent} == {"A"}
    assert len(result.sent) == 2 * 3 * 5
    assert len(lookup(GLIBC, "NXDOMAIN", conf_from_options([], ["a"] * 9, ["ndots:5"])).sent) == 20


def test_truncation_goes_to_tcp() -> None:
    def answer(ask: Ask) -> Reply:
        if ask.type != "A":
            return Reply()
        return (
            Reply(answers=(RR(ask.name, 5, "A", "192.0.2.7"),))
            if ask.transport == "tcp"
            else Reply(truncated=True)
        )

    result = resolve(GLIBC, conf_from_options(["1"]), "a.b", answer)[0]
    assert [(s.type, s.transport) for s in result.sent] == [
        ("A", "udp"),
        ("AAAA", "udp"),
        ("A", "tcp"),
        ("AAAA", "tcp"),
    ], "one truncated reply sends both questions again"
    assert result.told.ok
    assert not resolve(MUSL, conf_from_options(["1"]), "a.b", answer)[0].told.ok
    over_tcp = resolve(GLIBC, conf_from_options(["1"], options=["use-vc"]), "a.b", answer)[0]
    assert {s.transport for s in over_tcp.sent} == {"tcp"}


LOGIN = "login.acme.test"
CHAIN = {
    "login.acme.test.": "edge.acme.test.",
    "edge.acme.test.": "private.link.test.",
    "private.link.test.": "www.tm.ak.prd.balancer.test.",
}
LAST_TARGET = "www.tm.ak.prd.balancer.test."


def gateway_zone(ask: Ask) -> Reply:
    """A recursive server: the chain and its end for A, one link for CNAME."""
    if ask.name not in CHAIN and ask.name != LAST_TARGET:
        return Reply("NXDOMAIN")
    if ask.type == "CNAME":
        return Reply(answers=(RR(ask.name, 30, "CNAME", CHAIN[ask.name]),) if ask.name in CHAIN else ())
    at, answers = ask.name, []
    while at in CHAIN:
        answers.append(RR(at, 30, "CNAME", CHAIN[at]))
        at = CHAIN[at]
    if ask.type == "A":
        answers.append(RR(at, 30, "A", "203.0.113.9"))
    return Reply(answers=tuple(answers))


def searched(name: str, rtype: str) -> list[tuple[str, str]]:
    return [(f"{name}.{domain}.", rtype) for domain in SEARCH] + [(f"{name}.", rtype)]


def test_kong_asks_for_cnames_and_for_the_address_of_the_last_target_only() -> None:
    remembered = KongState(last=dict.fromkeys(CHAIN, "CNAME"))
    result, after = resolve(KONG, POD, LOGIN, gateway_zone, remembered)
    assert list(result.questions) == [
        *searched("login.acme.test", "CNAME"),
        *searched("edge.acme.test", "CNAME"),
        *searched("private.link.test", "CNAME"),
        *[(LAST_TARGET, "SRV"), *[(f"{LAST_TARGET}{d}.", "SRV") for d in SEARCH]],
        (LAST_TARGET, "A"),
    ]
    assert result.told.addresses == ("203.0.113.9",)
    assert after.last[LAST_TARGET] == "A"
    again, _ = resolve(KONG, POD, LOGIN, gateway_zone, KongState(last=after.last))
    assert again.questions[-1] == (LAST_TARGET, "A")
    assert not any(rtype == "SRV" for _, rtype in again.questions)
    assert not any(rtype == "A" for name, rtype in again.questions if name != LAST_TARGET)


def test_kong_learns_cname_as_last_from_its_first_lookup() -> None:
    first, after = resolve(KONG, POD, LOGIN, gateway_zone)
    assert (f"{LOGIN}.", "A") in first.questions
    assert after.last[f"{LOGIN}."] == "CNAME"
    cached, _ = resolve(KONG, POD, LOGIN, gateway_zone, after)
    assert cached.questions == ()
    assert cached.told == first.told


def test_kong_with_a_first_asks_for_the_name_that_is_meant() -> None:
    order = Profile(name="kong", resolver="kong", types=(), dns_order=("A", "CNAME", "LAST", "SRV"))
    remembered = KongState(last=dict.fromkeys(CHAIN, "CNAME"))
    result, _ = resolve(order, POD, LOGIN, gateway_zone, remembered)
    assert result.questions[:4] == tuple(searched(LOGIN, "A"))
    assert result.told.ok


def test_kong_gives_up() -> None:
    def circle(ask: Ask) -> Reply:
        return (
            Reply(answers=(RR(ask.name, 5, "CNAME", ask.name),)) if ask.type == "CNAME" else Reply("NXDOMAIN")
        )

    assert "100" in resolve(KONG, conf_from_options(["1"]), "a.b", circle)[0].told.error
    assert "3 name error" in lookup(KONG, "NXDOMAIN").told.error
    assert "5 refused" in lookup(KONG, "REFUSED").told.error
    assert "timeout" in lookup(KONG, "TIMEOUT").told.error
    assert "101" in lookup(KONG, "NODATA").told.error
