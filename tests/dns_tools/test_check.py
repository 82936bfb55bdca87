"""``dns check`` against real servers on loopback, and its judgement on what they say."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deadhop.cli import group
from deadhop.dns import findings, kerberos
from deadhop.dns.faults import Faults
from deadhop.dns.probe import PLAIN, TCP, Ask, Tried, probe

from .served import ZONE, served

SRV = "_kerberos._udp.corp.test"


def check(*args: str) -> tuple[int, Any]:
    result = CliRunner().invoke(
        group, ["dns", "check", *args, "--timeout", "0.3", "-o", "json"], standalone_mode=False
    )
    assert result.exception is None, result.exception
    return result.return_value, json.loads(result.output)


def kinds(body: Any) -> set[str]:
    return {f["kind"] for f in body["findings"]}


def test_a_healthy_name_is_fine() -> None:
    with served() as at:
        code, body = check("api.corp.test", "--server", f"127.0.0.1:{at.port}")
        assert (code, kinds(body)) == (0, set())
        assert [(r["transport"], r["edns"], r["rcode"]) for r in body["results"]] == [
            ("udp", None, "NOERROR"), ("udp", 1232, "NOERROR"), ("udp", 4096, "NOERROR"), ("tcp", None, "NOERROR"),
        ]  # fmt: skip
        assert all(r["records"] == ["A 192.0.2.1"] and r["ttl"] == 30 for r in body["results"])
        text = CliRunner().invoke(
            group, ["dns", "check", "api.corp.test", "--server", f"127.0.0.1:{at.port}"]
        )
        assert text.output.startswith("api.corp.test: fine")
        assert "fits every MTU" in text.output


def test_a_large_answer_exceeds_mtus_and_is_followed_over_tcp() -> None:
    with served(faults=Faults(pad=2351)) as at:
        code, body = check(SRV, "--type", "SRV", "--server", f"127.0.0.1:{at.port}")
        assert code == 1
        assert kinds(body) == {"exceeds-mtu"}
        assert {(m["mtu"], m["packet"]) for m in body["mtu"]} == {(m, 2379) for m in (1500, 1450, 1400, 1280)}
        assert "TC in" in body["without_edns"][0]
        assert "then NOERROR over TCP (2351 octets)" in body["without_edns"][0]


def test_a_server_that_sends_more_than_the_client_takes() -> None:
    with served(faults=Faults(tc=False)) as at:
        code, body = check(SRV, "--type", "SRV", "--udp", "--server", f"127.0.0.1:{at.port}")
        assert code == 1
        assert "oversize-without-tc" in kinds(body)
        assert {r["transport"] for r in body["results"]} == {"udp"}


def test_servers_that_differ() -> None:
    other = ZONE.replace("192.0.2.1\n", "192.0.2.99\n")
    without = "\n".join(line for line in ZONE.splitlines() if not line.startswith("api ")) + "\n"
    with served() as one, served(other) as two, served(without) as three:
        at = [f"127.0.0.1:{s.port}" for s in (one, two, three)]
        assert kinds(check("api.corp.test", "--server", at[0], "--server", at[1])[1]) == {"servers-differ"}
        code, body = check("api.corp.test", "--server", at[0], "--server", at[2])
        assert code == 1
        assert "NXDOMAIN" in body["findings"][0]["text"]
        code, body = check("nope.corp.test", "--server", at[0])
        assert kinds(body) == {"no-records"}


def test_silence_and_retries() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        code, body = check("api.corp.test", "--server", where)
        assert (code, kinds(body)) == (3, {"server-silent"})
        assert {r["error"] for r in body["results"]} == {"no answer", "connection refused"}
        with served() as at:
            code, body = check("api.corp.test", "--server", where, "--server", f"127.0.0.1:{at.port}")
            assert (code, kinds(body)) == (1, {"server-silent"})
    with served(faults=Faults(drop_first=1)) as at:
        code, body = check("api.corp.test", "--udp", "--bufsize", "1400", "--server", f"127.0.0.1:{at.port}")
        assert (code, kinds(body)) == (0, {"needed-retry"})
        assert [(r["edns"], r["tries"]) for r in body["results"]] == [(1400, 2)]


def test_a_realm_finds_its_kdcs(tmp_path: Path) -> None:
    conf = tmp_path / "krb5.conf"
    conf.write_text("[libdefaults]\n dns_lookup_kdc = no\n udp_preference_limit = 1\n")
    with served() as at:
        code, body = check("CORP.TEST", "--server", f"127.0.0.1:{at.port}", "--krb5-conf", str(conf))
        assert body["realm"] == "CORP.TEST"
        assert {r["name"] for r in body["results"]} == {n for n, _ in kerberos.questions("CORP.TEST")}
        assert len(body["kdcs"]) == 48
        assert "no-kdc" not in kinds(body)
        assert any("no KDC will be found" in line for line in body["krb5"])
        assert any("TCP first, always" in line for line in body["krb5"])
        assert code == 1, "48 SRV records exceed an MTU"
    with served("$ORIGIN corp.test.\n@ 3 SOA ns h 1 1 1 1 1\n") as at:
        code, body = check("CORP.TEST", "--server", f"127.0.0.1:{at.port}", "--krb5-conf", "/nonexistent")
        assert (code, kinds(body)) == (1, {"no-kdc"})


def test_the_text_for_a_realm() -> None:
    with served() as at:
        args = [
            "dns",
            "check",
            "CORP.TEST",
            "--server",
            f"127.0.0.1:{at.port}",
            "--krb5-conf",
            "/nonexistent",
        ]
        lines = CliRunner().invoke(group, args).output.splitlines()
    assert lines[0] == "CORP.TEST: 1 risk"
    assert any(
        line.startswith("KDCs: kdc00.site-0.corp.test:88, ") and line.endswith("and 42 more")
        for line in lines
    )
    (broken,) = [line for line in lines if "at an MTU of" in line and line.startswith("  _kerberos")]
    assert "1500 (Ethernet), 1450" in broken
    assert any("then NOERROR over TCP" in line for line in lines)


def test_usage_errors() -> None:
    for args in (["a.test", "--server", "nonsense"], ["a.test", "--type", "NOPE"], ["a" * 70 + ".test"],
                 ["a.test", "--netns", "/nonexistent/ns"]):  # fmt: skip
        result = CliRunner().invoke(group, ["dns", "check", *args])
        assert result.exit_code == 2, args
        assert "Error:" in result.output


def test_krb5_conf() -> None:
    text = """
# comment
[libdefaults]
    default_realm = CORP.TEST
    udp_preference_limit = 99999
[realms]
    CORP.TEST = {
        kdc = kdc1.corp.test:88
        kdc = kdc2.corp.test
    }
    OTHER.TEST = {
        kdc = kdc.other.test
    }
"""
    conf = kerberos.read_krb5(text, "corp.test")
    assert conf.kdcs == ("kdc1.corp.test:88", "kdc2.corp.test")
    assert (conf.udp_preference_limit, conf.default_realm) == (32700, "CORP.TEST")
    assert "DNS is not asked" in kerberos.advice(conf, "CORP.TEST")[0]
    assert kerberos.looks_like_realm("CORP.TEST")
    assert not kerberos.looks_like_realm("corp.test")


@given(st.text(alphabet="[]{}=abk dc\nrealms", max_size=80))
def test_any_krb5_conf_is_read(text: str) -> None:
    kerberos.read_krb5(text, "A.B")


def test_a_reply_with_another_id_is_not_taken() -> None:
    """Whoever answers with a wrong id first is passed over, by UDP."""
    import threading

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def play() -> None:
            data, peer = server.recvfrom(512)
            wrong = bytes([data[0] ^ 1, data[1], 0x81, 0x83]) + data[4:]
            right = data[:2] + b"\x81\x80" + data[4:]
            server.sendto(wrong, peer)
            server.sendto(right, peer)

        thread = threading.Thread(target=play)
        thread.start()
        got = probe(Ask("a.test.", "A", f"127.0.0.1:{server.getsockname()[1]}", PLAIN), 20.0)
        thread.join()
    assert (got.rcode, got.error) == ("NOERROR", "")


def tried(**given: Any) -> Tried:
    base: dict[str, Any] = {
        "name": "a.",
        "type": "A",
        "server": "10.0.0.1",
        "where": "here",
        "transport": "udp",
    }
    return Tried(**(base | given))


def test_lost_by_udp_while_tcp_has_a_large_answer() -> None:
    results = [
        tried(rcode="NOERROR", truncated=True, size=500),
        tried(edns=4096, error="no answer"),
        tried(transport=TCP.transport, rcode="NOERROR", size=2351, records=("A 192.0.2.1",)),
    ]
    (lost,) = findings.judge(results)
    assert lost.kind == "udp-lost"
    assert "a packet of 2379" in lost.text
    assert {f.outcome for f in findings.fits(results)} == {"dropped if DF, else fragmented"}


def test_truncated_without_tcp() -> None:
    results = [
        tried(rcode="NOERROR", truncated=True, size=500),
        tried(transport="tcp", error="connection refused"),
    ]
    assert {f.kind for f in findings.judge(results)} == {"truncated-without-tcp"}
    assert "then TCP fails" in findings.without_edns(results)[0]


def test_here_and_there() -> None:
    results = [
        tried(rcode="NOERROR", size=60, records=("A 192.0.2.1",)),
        tried(rcode="NOERROR", size=60, records=("A 192.0.2.2",), where="netns web"),
    ]
    assert {f.kind for f in findings.judge(results)} == {"places-differ"}
