"""``fqdn replay`` and ``observe`` on recordings: what is said of each connection, and what would have allowed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.test_parts import WEB, answer, core
from deadhop.agent.endpoints import Endpoint, parse
from deadhop.agent.flows import FlowLog
from deadhop.agent.journal import Journal
from deadhop.agent.packets import Packet
from deadhop.cli import group
from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.flows import encode_line
from deadhop.lab.scenarios._fqdn import allow_names

CLIENT, SERVER = ("10.0.0.5", 40000), ("10.70.9.53", 53)
COREDNS = """[INFO] 10.0.0.5:40000 - 1 "A IN api.k8s.intra. udp 31 false 512" NOERROR qr,aa,rd 60 0.0001s
[INFO] 10.0.0.5:40001 - 2 "CNAME IN www.other.test. udp 31 false 512" NOERROR qr,aa,rd 60 0.0001s
not a line of CoreDNS
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two lookups and three connections of one pod, as the agent's own flows."""
    made = core()
    dns = Endpoint(
        spec=parse("kube-system/coredns=ip:10.70.9.53,k8s-app=kube-dns"), addresses=("10.70.9.53",)
    )
    made.by_ip["10.70.9.53"] = dns
    log = FlowLog(made, "node1")
    web = made.by_ip["10.0.0.5"]
    for name, ip in (("api.k8s.intra.", "198.18.0.1"), ("edge.cdn.example.", "198.18.0.2")):
        log.query(web, CLIENT, SERVER, "UDP", MessageDetails(qname=name, qtypes=(1,)), "FORWARDED")
        log.answer(web, CLIENT, SERVER, "UDP", answer(name, ip))
        made.learn(web.id, answer(name, ip), 0.0)
    log.query(web, CLIENT, SERVER, "UDP", MessageDetails(qname="evil.com.", qtypes=(1,)), "DROPPED")
    for number, ip in enumerate(("198.18.0.1", "198.18.0.2", "198.18.0.3")):
        kind = "allowed:L3" if ip.endswith(".1") else "denied"
        log.packet(Packet(kind, "10.0.0.5", ip, "TCP", 50000 + number, 443, "TCP Flags: SYN"))
    path = tmp_path / "hubble.json"
    path.write_text("".join(encode_line(line) + "\n" for entry in log.ring for line in log.lines(entry)))
    return path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(allow_names("*.k8s.intra", dns=("*.k8s.intra", "*.cdn.example")))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, [str(a) for a in arguments], standalone_mode=False)


def test_each_connection_is_judged(recorded: Path, policy: Path) -> None:
    result = run("fqdn", "replay", "--policy", policy, "--queries", recorded, "-o", "json")
    assert result.exception is None, result.output
    assert result.return_value == 1
    first, second, third = json.loads(result.output)["connections"]
    assert (first["allowed"], first["selector"], first["names"]) == (
        True,
        "fqdn:*.k8s.intra",
        ["api.k8s.intra."],
    )
    assert first["until"] is not None
    assert first["recorded"] == "FORWARDED"
    assert (second["allowed"], second["names"]) == (False, ["edge.cdn.example."])
    assert {
        "kind": "selector",
        "change": "toFQDNs: matchName edge.cdn.example, the name under which the address is learned",
    } in second["would_allow"]
    assert (third["allowed"], third["names"]) == (False, [])
    text = run("fqdn", "replay", "--policy", policy, "--queries", recorded).output
    assert "198.18.0.2:443/TCP  DENIED" in text
    assert "evil.com. A: rejected" in text


def test_another_time_and_another_connection(recorded: Path, policy: Path) -> None:
    result = run(
        "fqdn", "replay", "--policy", policy, "--queries", recorded, "-o", "json",
        "--connect", "web=198.18.0.1:443", "--at", "2100-01-01T00:00:00Z",
    )  # fmt: skip
    assert result.exception is None
    last = json.loads(result.output)["connections"][-1]
    assert last["at"] == "2100-01-01T00:00:00Z"
    assert last["allowed"] is not True, "the lookup ran out long before"


def test_a_deny_rule_wins_over_a_name(recorded: Path, policy: Path) -> None:
    policy.write_text(policy.read_text() + "  egressDeny:\n    - toCIDR: [198.18.0.0/16]\n")
    result = run("fqdn", "replay", "--policy", policy, "--queries", recorded, "-o", "json")
    found = json.loads(result.output)["connections"]
    assert [item["allowed"] for item in found] == [False] * 3
    assert found[0]["because"] == "an egressDeny rule names the destination"


def test_a_log_of_queries(policy: Path, tmp_path: Path) -> None:
    log = tmp_path / "coredns.log"
    log.write_text(COREDNS)
    web = f"default/web=ip:{WEB.addresses[0]},app=web"
    result = run("fqdn", "replay", "--policy", policy, "--queries", log, "--endpoint", web)
    assert result.exception is None
    assert result.return_value == 1
    assert "www.other.test. CNAME: rejected" in result.output
    assert "api.k8s.intra." not in result.output


def test_observe_reads_recordings(recorded: Path) -> None:
    lines = run("observe", recorded).output.splitlines()
    assert len(lines) == 10
    assert "dns-request proxy DROPPED (DNS Query evil.com. A)" in "\n".join(lines)
    assert len(run("observe", recorded, "--verdict", "DENIED").output.splitlines()) == 2
    assert len(run("observe", recorded, "--last", "3").output.splitlines()) == 3
    only = run(
        "observe", recorded, "--name", "*.cdn.example", "--pod", "default/web", "-o", "jsonpb"
    ).output.splitlines()
    assert len(only) == 4
    assert all(json.loads(line)["flow"]["source"] for line in only)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--connect", "nobody=1.2.3.4:5"), "no pod nobody"),
        (("--connect", "web"), "POD=IP:PORT"),
        (("--at", "noon"), "RFC 3339"),
    ],
)
def test_usage(recorded: Path, policy: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run("fqdn", "replay", "--policy", policy, "--queries", recorded, *arguments)
    assert said in str(result.exception)


def test_selectors_of_a_state_folder(tmp_path: Path) -> None:
    """After a snapshot the selectors are there without the agent, with the policies that use them."""
    journal = Journal(tmp_path)
    journal.snapshot(core().lines(1053))
    journal.close()
    names = json.loads(run("fqdn", "names", "--state", tmp_path).output)
    assert names["FQDNPolicySelectors"] == [
        {
            "regexString": "^[-a-zA-Z0-9_]*[.]k8s[.]intra[.]$",
            "selectorString": "MatchName: , MatchPattern: *.k8s.intra",
        }
    ]
    text = run("fqdn", "selectors", "--state", tmp_path / "state.jsonl").output.splitlines()
    assert text[0].split() == ["SELECTOR", "LABELS", "USERS", "IDENTITIES"]
    assert text[1].split()[-2:] == ["default/names", "1"]
    assert "no agent at" in str(run("fqdn", "names", "--socket", tmp_path / "none.sock").exception)
