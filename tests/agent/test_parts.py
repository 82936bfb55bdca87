"""The agent's parts without a kernel: journal, readers of netlink, settings, filters."""

from __future__ import annotations

import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.agent import conntrack, packets
from deadhop.agent.config import ConfigError, read_config, settings_for
from deadhop.agent.core import Core
from deadhop.agent.elements import text_of
from deadhop.agent.endpoints import Endpoint, parse
from deadhop.agent.filters import FlowFilter
from deadhop.agent.flows import FlowLog
from deadhop.agent.journal import Journal, StateError, read
from deadhop.agent.offline import cache_rows
from deadhop.agent.policyfile import parse as parse_policy
from deadhop.fqdn.answers import MessageDetails
from deadhop.fqdn.flows import Flow, FlowDNS, FlowEndpoint, Layer7
from deadhop.fqdn.options import LATEST, V1_13, options_for
from deadhop.lab.scenarios._fqdn import allow_names

WEB = Endpoint(spec=parse("default/web=netns:x,app=web"), addresses=("10.0.0.5",), device="lxc0")


def core(*, min_ttl: int = 0) -> Core:
    options, _ = options_for(LATEST, {"tofqdns-min-ttl": min_ttl})
    made = Core(LATEST, options)
    policies, _ = parse_policy(allow_names("*.k8s.intra"), "p.yaml", LATEST)
    made.adopt([WEB], policies, made.prepare([WEB], policies))
    made.arrange(0.0)
    made.sets.applied(made.sets.batch)
    return made


def answer(name: str, *ips: str, ttl: int = 30) -> MessageDetails:
    return MessageDetails(qname=name, response=True, ttl=ttl, ips=ips, qtypes=(1,))


def rows(made: Core) -> set[tuple[str, str, str]]:
    return {(r.source, r.fqdn, ip) for r in made.cache_rows() for ip in r.ips}


def test_what_is_learned_survives(tmp_path: Path) -> None:
    made, journal = core(), Journal(tmp_path)
    journal.snapshot(made.lines(1053))
    for number in range(50):
        _, line = made.learn(1, answer(f"n{number}.k8s.intra.", f"198.18.0.{number}"), 1000.0 + number)
        assert line is not None
        journal.add(line)
        if number == 20:
            journal.begin_snapshot(made.lines(1053), each=3)
        journal.step()
    journal.flush()
    journal.close()
    lines, complaints = read(tmp_path)
    assert complaints == []
    again = core()
    again.recall(lines)
    assert again.load(lines, 1010.0) == []
    assert rows(again) == rows(made)
    assert rows(again) == {(row.source, row.fqdn, ip) for row in cache_rows(tmp_path) for ip in row.ips}
    held = again.arrange(1010.0)["p0_f0_4"]
    assert len(held) == 50
    assert held["198.18.0.49"] == pytest.approx(1049 + 30 + 180 - 1010)


def test_another_policy_takes_what_its_selectors_match() -> None:
    made = core()

    def adopt(*names: str) -> dict[str, dict[str, float]]:
        policies, _ = parse_policy(allow_names(*names), "p.yaml", LATEST)
        made.adopt([WEB], policies, made.prepare([WEB], policies))
        return made.arrange(1010.0)

    made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1000.0)
    made.learn(1, answer("b.example.org.", "198.18.0.2"), 1000.0)
    assert set(adopt("*.k8s.intra")["p0_f0_4"]) == {"198.18.0.1"}
    made.learn(1, answer("c.k8s.intra.", "198.18.0.3"), 1005.0)
    assert set(adopt("*.k8s.intra")["p0_f0_4"]) == {"198.18.0.1", "198.18.0.3"}
    assert set(adopt("*.example.org", "c.k8s.intra")["p0_f0_4"]) == {"198.18.0.2", "198.18.0.3"}
    made.sets.forget()
    assert adopt("other.test") == {}
    assert adopt("*.example.org")["p0_f0_4"] == {"198.18.0.2": pytest.approx(1000 + 30 + 180 - 1010)}


def test_what_is_gone_does_not_come_back(tmp_path: Path) -> None:
    """An address whose connections are over before a kill is not allowed again after it."""
    made, journal = core(), Journal(tmp_path)
    journal.snapshot(made.lines(0))
    _, line = made.learn(1, answer("a.k8s.intra.", "198.18.0.1", ttl=1), 1000.0)
    assert line is not None
    journal.add(line)
    for at in (1060.0, 1120.0, 1180.0, 1240.0):
        made.node.conntrack_gc((), at - 10)
        _, _, gone = made.dns_gc(at)
        for line in gone:
            journal.add(line)
    journal.close()
    assert made.cache_rows() == []
    again = core()
    again.load(read(tmp_path)[0], 1250.0)
    assert again.cache_rows() == []
    assert again.arrange(1250.0) == {}


def test_a_cut_journal(tmp_path: Path) -> None:
    made, journal = core(), Journal(tmp_path)
    journal.snapshot(made.lines(0))
    for number in range(10):
        _, line = made.learn(1, answer(f"n{number}.k8s.intra.", "198.18.0.1"), 1000.0)
        assert line is not None
        journal.add(line)
    journal.close()
    path = max(tmp_path.glob("journal-*.jsonl"))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        lines, complaints = read(tmp_path)
        assert complaints == []
        assert sum(line[0] == "lookup" for line in lines) == whole[:size].count(b"\n")


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_state_file_is_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("state")
    (folder / "state.jsonl").write_bytes(content)
    (folder / "journal-1.jsonl").write_bytes(content + b'\n["lookup",1]\n["gone"]\n["zombie",1,2,3,4]\n[7]\n')
    lines, _ = read(folder)
    made = core()
    made.recall(lines)
    made.load(lines, 0.0)
    cache_rows(folder)


def test_two_agents_on_one_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(StateError, match="another agent"):
        Journal(tmp_path)
    journal.close()


def test_a_lookup_is_renewed_and_cleaned_in_the_kernel_too() -> None:
    made = core()
    new, _ = made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1000.0)
    assert new
    change, batch = made.sets.additions(1000.0)
    assert text_of(change) == "add element inet deadhop_fqdn p0_f0_4 { 198.18.0.1 timeout 210s }\n"
    again, _ = made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1000.0)
    assert again, "a second answer waits for the transaction of the first"
    made.sets.applied(batch)
    assert not made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1001.0)[0]
    assert made.sets.renewals(1001.0, 64) == ()
    made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1070.0)
    assert text_of(made.sets.renewals(1070.0, 64)).splitlines() == [
        "delete element inet deadhop_fqdn p0_f0_4 { 198.18.0.1 }",
        "add element inet deadhop_fqdn p0_f0_4 { 198.18.0.1 timeout 210s }",
    ]
    made.learn(1, answer("a.k8s.intra.", "198.18.0.1"), 1270.0)
    assert made.sets.renewals(1275.0, 64)[0].verb == "add", "the lease may be over: first it is added"
    names, change = made.clean(1280.0, None)
    assert names == ["a.k8s.intra."]
    assert "delete element inet deadhop_fqdn p0_f0_4 { 198.18.0.1 }" in text_of(change)


def test_an_address_of_two_names_stays_with_the_second() -> None:
    made = core()
    made.learn(1, answer("a.k8s.intra.", "198.18.0.1", ttl=1), 1000.0)
    made.learn(1, answer("b.k8s.intra.", "198.18.0.1", ttl=900), 1000.0)
    for at in (1060.0, 1120.0, 1180.0):
        made.node.conntrack_gc((), at - 10)
        _, change, _ = made.dns_gc(at)
        assert "delete" not in text_of(change)
    assert made.permits(made.endpoints[0], "198.18.0.1", "TCP", 443)
    assert not made.permits(made.endpoints[0], "198.18.0.2", "TCP", 443)


@given(st.binary(max_size=300))
def test_any_netlink_datagram_is_read(data: bytes) -> None:
    list(packets.packets(data))
    packets.head_of("denied", data)
    message = struct.pack("=IHHII", 16 + len(data), 4 << 8, 0, 0, 0) + data
    list(packets.packets(message))


@given(st.binary(max_size=200))
def test_any_conntrack_entry_is_read(data: bytes) -> None:
    conntrack._entry(data, 0, len(data))


def test_a_logged_packet() -> None:
    ip = bytes.fromhex("4500003c000040004006000a0a00000501020304")
    tcp = bytes.fromhex("c35001bb00000000000000005012faf000000000")
    packet = packets.head_of("denied", ip + tcp)
    assert packet == packets.Packet("denied", "10.0.0.5", "1.2.3.4", "TCP", 50000, 443, "TCP Flags: SYN, ACK")


def test_settings(tmp_path: Path) -> None:
    config = tmp_path / "cilium-config.yaml"
    config.write_text(
        'kind: ConfigMap\ndata:\n  tofqdns-min-ttl: "60"\n  tofqdns-proxy-response-max-delay: 250ms\n'
        '  dnsproxy-lock-count: "256"\n  cluster-name: x\n'
    )
    made, remarks = settings_for(LATEST, read_config(config))
    assert (made.options.min_ttl, made.options.proxy_response_max_delay) == (60, 0.25)
    assert remarks == (
        "dnsproxy-lock-count has no effect: answers for one name wait for each other without locks",
    )
    assert settings_for(V1_13, {})[0].options.min_ttl == 3600
    assert settings_for(LATEST, {})[0].transparent
    with pytest.raises(ConfigError, match="tofqdns-proxy-port"):
        settings_for(LATEST, {"tofqdns-proxy-port": 70000})
    with pytest.raises(ConfigError, match="duration"):
        settings_for(LATEST, {"conntrack-gc-interval": "often"})
    config.write_text("- 1\n")
    with pytest.raises(ConfigError, match="neither a ConfigMap"):
        read_config(config)
    config.write_text("a: [\n")
    with pytest.raises(ConfigError, match=r"cilium-config.yaml:\d"):
        read_config(config)


def test_filters() -> None:
    pod = FlowEndpoint(namespace="shop", pod_name="web")
    flow = Flow(verdict="DROPPED", source=pod, l7=Layer7(type="REQUEST", dns=FlowDNS(query="api.x.com.")))
    assert FlowFilter().accepts(flow)
    assert FlowFilter(["shop/web"], ["dropped"], ["*.x.com"]).accepts(flow)
    assert FlowFilter(["web"]).accepts(flow)
    assert not FlowFilter(["default/web"]).accepts(flow)
    assert not FlowFilter((), ["FORWARDED"]).accepts(flow)
    assert not FlowFilter((), (), ["*.com"]).accepts(flow)
    with pytest.raises(ValueError, match="no verdict"):
        FlowFilter((), ["MAYBE"])


def test_too_many_addresses_are_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadhop.agent.core.PAIRS_PER_ENDPOINT", 250)
    monkeypatch.setattr("deadhop.agent.core.NAMES_PER_ENDPOINT", 5)
    made = core()
    for number in range(4):
        ips = [f"198.18.{number}.{n}" for n in range(100)]
        made.learn(1, answer(f"n{number}.k8s.intra.", *ips), 1000.0)
    assert made.unlearned == 2
    for number in range(10, 20):
        made.learn(1, answer(f"n{number}.k8s.intra.", "198.18.9.9"), 1000.0)
    assert made.unlearned == 2 + 7
    assert made.learn(1, answer("n0.k8s.intra.", "198.18.0.1", ttl=90), 1001.0)[1] is not None
    assert made.unlearned == 9, "a name that is known is prolonged"


def test_giant_answers_do_not_stay_as_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadhop.agent.flows.KEPT_ADDRESSES", 1000)
    made = core()
    log = FlowLog(made, "node1")
    for number in range(50):
        ips = [f"198.18.{number}.{n}" for n in range(200)]
        log.answer(
            made.by_ip["10.0.0.5"], ("10.0.0.5", 1), ("1.1.1.1", 53), "UDP", answer("a.k8s.intra.", *ips)
        )
    assert len(log.ring) == 5


@contextmanager
def files_end_at(octets: int) -> Iterator[None]:
    """No file of this process may grow past ``octets``: what a full disk is to the journal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_snapshot_that_cannot_be_written_takes_nothing_away(tmp_path: Path) -> None:
    made, journal = core(), Journal(tmp_path)
    journal.snapshot(made.lines(0))
    for number in range(100):
        _, line = made.learn(1, answer(f"n{number}.k8s.intra.", "198.18.0.1"), 1000.0)
        assert line is not None
        journal.add(line)
    journal.flush()
    before = read(tmp_path)
    with files_end_at(200):
        journal.begin_snapshot(made.lines(0), each=10)
        while journal.step():
            pass
        assert (journal.failed, journal.busy) == ("File too large", False)
        with pytest.raises(StateError, match="File too large"):
            journal.snapshot(made.lines(0))
    assert read(tmp_path) == before
    assert not journal.wants_snapshot, "not before something can be written"
    _, line = made.learn(1, answer("later.k8s.intra.", "198.18.0.1"), 1000.0)
    assert line is not None
    journal.add(line)
    journal.flush()
    assert journal.wants_snapshot
    journal.snapshot(made.lines(0))
    assert not journal.wants_snapshot
    assert journal.failed == ""
    journal.close()
    again = core()
    again.load(read(tmp_path)[0], 1001.0)
    assert rows(again) == rows(made)


def test_a_line_that_was_written_in_part_spoils_no_other(tmp_path: Path) -> None:
    made, journal = core(), Journal(tmp_path)
    journal.snapshot(made.lines(0))
    path = max(tmp_path.glob("journal-*.jsonl"))
    for batch, more in ("ab", 1 << 20), ("cd", 80), ("ef", 1 << 20):
        for letter in batch:
            _, line = made.learn(1, answer(f"{letter}.k8s.intra.", "198.18.0.1"), 1000.0)
            assert line is not None
            journal.add(line)
        with files_end_at(path.stat().st_size + more):
            journal.flush()
        assert bool(journal.failed) == (batch == "cd")
    lines, complaints = read(tmp_path)
    assert complaints == []
    assert [ln[2][0] for ln in lines if ln[0] == "lookup"] == ["a", "b", "c", "e", "f"]
    assert journal.wants_snapshot, "it brings back what is missing"
    journal.close()
