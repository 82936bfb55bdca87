"""The agent in a node's namespace: what each kind of rule lets through, reloads, restarts, and the tools around it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from agent.rig import IP, NAME, OTHER, PlayedServer, Rig, a_record, honest, reply, rig
from deadhop.agent import policyfile
from deadhop.agent.privileges import CAP_NET_ADMIN, CAP_NET_RAW
from deadhop.fqdn.options import LATEST
from deadhop.hops.policy.decide import judge
from deadhop.hops.policy.peers import Peer
from deadhop.lab.scenarios._fqdn import DNS, DNS6, addresses, allow_names
from deadhop.model.dns import Rcode
from deadhop.wire.build import build_query
from deadhop.wire.dns import read_message

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with rig(policy=allow_names("*.k8s.intra", dns=("*.k8s.intra", "*.other.test"))) as made:
        yield made


@pytest.fixture
def node(shared: Rig) -> Rig:
    shared.server.handler = honest
    shared.agent.command("fqdn", "cache", "clean", "-f")
    return shared


def test_a_denied_name_is_refused(node: Rig) -> None:
    answer = node.cluster.ask("a", "evil.com.")
    assert answer is not None
    assert answer.rcode == Rcode.REFUSED
    assert "dns-request proxy DROPPED (DNS Query evil.com. A)" in node.agent.command("observe")


def test_a_name_that_no_selector_matches_is_answered_and_opens_nothing(node: Rig) -> None:
    assert addresses(node.cluster.ask("a", "x.other.test.")) == [IP]
    assert not node.cluster.reaches("a", IP)
    assert "x.other.test." in node.names()


def test_tcp(node: Rig) -> None:
    assert addresses(node.cluster.ask("a", NAME, tcp=True)) == [IP]
    assert node.cluster.connects("b", IP)
    assert not node.cluster.reaches("b", OTHER)


def test_ipv6(node: Rig) -> None:
    ip = "2001:db8:1::10"
    node.cluster.serve_web(ip)
    server = PlayedServer(node.cluster, DNS6)
    try:
        server.handler = lambda query: [reply(query, a_record(query, ip))]
        assert node.cluster.connect("a", ip, wait=0.7) is None
        for tcp in (False, True):
            assert addresses(node.cluster.ask("a", f"v6{tcp}.k8s.intra.", "AAAA", DNS6, tcp=tcp)) == [ip]
        assert node.cluster.connects("a", ip)
        assert {peer[0] for _, peer in server.queries} == {node.cluster.pods["a"][2]}
    finally:
        server.close()


def test_a_service_address_of_the_dns_server(node: Rig) -> None:
    """Policy and proxy see what the packet is after translation, the pod its service (kube-proxy's nftables mode)."""
    vip = "10.96.0.10"
    rules = f"""table ip nat {{
      chain prerouting {{ type nat hook prerouting priority dstnat
        ip daddr {vip} udp dport 53 dnat to {DNS}:53
        ip daddr {vip} tcp dport 53 dnat to {DNS}:53
      }}
    }}"""
    node.cluster.lab.must("node1", ["nft", "-f", "-"], feed=rules)
    try:
        for tcp in (False, True):
            name = f"svc{tcp}.k8s.intra.".lower()
            assert addresses(node.cluster.ask("a", name, server=vip, tcp=tcp)) == [IP]
            assert name in node.names()
        assert node.cluster.connects("a", IP)
    finally:
        node.cluster.lab.must("node1", ["nft", "delete", "table", "ip", "nat"])


def test_an_answer_larger_than_the_path(node: Rig) -> None:
    """The proxy's answer is fragmented like any datagram."""
    node.server.handler = lambda query: [
        reply(query, *(a_record(query, f"198.18.0.{n}") for n in range(1, 200)))
    ]
    assert len(addresses(node.cluster.ask("a", NAME))) == 199


def test_privileges_are_dropped(node: Rig) -> None:
    with open(f"/proc/{node.agent.running.pid}/status") as file:
        status = {line.partition(":")[0]: line.partition(":")[2].strip() for line in file}
    kept = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == kept
    assert status["NoNewPrivs"] == "1"


def test_a_second_agent_on_the_same_state_is_refused(node: Rig) -> None:
    done = node.cluster.lab.run("node1", node.agent.argv)
    assert done.returncode == 2
    assert "another agent uses" in done.stdout


def test_the_tools_print_what_cilium_prints(node: Rig) -> None:
    node.cluster.ask("a", NAME)
    lines = node.agent.command("fqdn", "cache", "list").splitlines()
    assert lines[0].split() == ["Endpoint", "Source", "FQDN", "TTL", "ExpirationTime", "IPs"]
    assert lines[1].split()[:4] == ["1", "lookup", NAME, "30"]
    (row,) = json.loads(node.agent.command("fqdn", "cache", "list", "-o", "json", "-p", "*.k8s.intra"))
    assert list(row) == ["endpoint-id", "expiration-time", "fqdn", "ips", "lookup-time", "source", "ttl"]
    assert json.loads(node.agent.command("fqdn", "cache", "list", "-o", "json", "-e", "2")) == []
    assert (
        json.loads(node.agent.command("fqdn", "cache", "list", "-o", "json", "-s", "global"))[0]["fqdn"]
        == NAME
    )
    names = json.loads(node.agent.command("fqdn", "names"))
    assert names["FQDNPolicySelectors"][0]["regexString"] == "^[-a-zA-Z0-9_]*[.]k8s[.]intra[.]$"
    (selector,) = json.loads(node.agent.command("fqdn", "selectors", "-o", "json"))
    assert selector["users"] == 1
    assert selector["identities"] == [16777217]
    state = [sys.executable, "-m", "deadhop", "fqdn", "cache", "list", "--state", str(node.agent.state)]
    assert NAME in subprocess.run(state, capture_output=True, text=True, check=True).stdout


def test_flows_are_followed_and_filtered(node: Rig) -> None:
    argv = [
        sys.executable,
        "-m",
        "deadhop",
        "observe",
        "-f",
        "-o",
        "jsonpb",
        "--verdict",
        "DROPPED",
        "--pod",
        "default/a",
    ]
    follower = subprocess.Popen([*argv, "--socket", str(node.agent.socket)], stdout=subprocess.PIPE)
    try:
        node.cluster.ask("b", "evil.com.")
        flow: dict[str, object] = {}

        def read() -> None:
            assert follower.stdout is not None
            flow.update(json.loads(follower.stdout.readline())["flow"])

        reader = threading.Thread(target=read)
        reader.start()
        while reader.is_alive():  # the follower may not have connected when the first flow is made
            node.cluster.ask("a", "evil.com.")
            reader.join(0.1)
        assert flow["verdict"] == "DROPPED"
        assert flow["l7"] == {
            "type": "REQUEST",
            "dns": {"query": "evil.com.", "observation_source": "proxy", "qtypes": ["A"]},
        }
    finally:
        follower.kill()
        follower.wait()


RULES = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: static, namespace: default}
spec:
  endpointSelector: {}
  egress:
    - toCIDRSet:
        - cidr: 203.0.113.0/24
          except: [203.0.113.96/28]
      toPorts:
        - ports: [{port: "8080", endPort: 8090, protocol: TCP}]
    - toCIDR: [198.51.100.0/24]
    - toEntities: [remote-node]
    - toEndpoints:
        - matchLabels: {role: db, k8s:io.kubernetes.pod.namespace: shop}
      toPorts:
        - ports: [{port: "5432", protocol: TCP}]
  egressDeny:
    - toCIDR: [198.51.100.7/32]
    - toCIDR: [203.0.113.0/24]
      toPorts:
        - ports: [{port: "8085", protocol: TCP}]
"""
PEERS = (
    "shop/db=ip:203.0.113.50,role=db",
    "shop/cache=ip:203.0.113.51,role=cache",
    "node2=ip:203.0.113.60,reserved:remote-node",
)


def test_static_rules_as_the_policy_hop_judges_them() -> None:
    """Real connections against the model's answer for the same ends."""
    with rig(policy=RULES, peers=PEERS) as made:
        (policy,) = policyfile.load([made.agent.policy], LATEST)
        pod = Peer(name="a", namespace="default", labels={"app": "web"}, ip=made.cluster.pods["a"][1])
        known = {
            "203.0.113.50": Peer(namespace="shop", labels={"role": "db"}, ip="203.0.113.50"),
            "203.0.113.51": Peer(namespace="shop", labels={"role": "cache"}, ip="203.0.113.51"),
            "203.0.113.60": Peer(entity="remote-node", ip="203.0.113.60"),
            "10.70.1.2": Peer(entity="host", ip="10.70.1.2"),
        }
        places = [
            "203.0.113.10",
            "203.0.113.99",
            "203.0.113.112",
            "198.51.100.7",
            "198.51.100.8",
            "192.0.2.1",
            *known,
        ]
        ports = (8079, 8080, 8085, 8090, 8091, 5432)
        wanted = {
            (ip, port): judge([policy], "egress", pod, known.get(ip, Peer(ip=ip)), port, "TCP").allowed
            for ip in places
            for port in ports
        }
        assert set(wanted.values()) == {True, False}
        for ip in places:
            if ip not in (IP, OTHER, "10.70.1.2"):
                made.cluster.outside_address(ip)
        # Nobody listens at most of these: a reset comes back where the SYN gets through, silence where it does not.
        with made.cluster.lab.inside("a"):
            tries = {key: socket.socket() for key in wanted}
        for sock in tries.values():
            sock.setblocking(False)
        for key, sock in tries.items():
            sock.connect_ex(key)
        denied = sum(allowed is False for allowed in wanted.values())
        made.until(lambda: sum(made.agent.drops()[k] for k in ("policy_denied", "deny_rule")) >= denied)
        passed = {}
        for key, sock in tries.items():
            error = sock.connect_ex(key)
            passed[key] = error in (0, 106, 111)
            sock.close()
        assert passed == wanted


def test_reload() -> None:
    with rig() as made:
        made.cluster.ask("a", NAME)
        held = made.cluster.connect("a", IP)
        assert held is not None
        good = made.agent.policy.read_text()

        made.agent.policy.write_text(good.replace("matchPattern", "matchPatern"))
        made.agent.running.send_signal(signal.SIGHUP)
        log = made.cluster.lab.scratch / f"{made.agent.running.pid}.out"
        made.until(lambda: "reload refused" in log.read_text())
        assert f"{made.agent.policy}:" in log.read_text()
        assert made.cluster.connects("a", IP), "the policies in force stay"

        made.agent.policy.write_text(good.replace("*.k8s.intra", "*.example.com"))
        made.agent.running.send_signal(signal.SIGHUP)
        made.until(lambda: "connections that are not allowed any more" in log.read_text())
        assert not made.cluster.reaches("a", IP)
        held.settimeout(0.7)
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(TimeoutError):
            held.recv(100)
        held.close()

        made.agent.policy.write_text(good)
        made.agent.running.send_signal(signal.SIGHUP)
        made.until(lambda: log.read_text().count("policies reloaded") == 2)
        made.until(lambda: made.agent.ask("status")["elements"] == 1)
        assert made.cluster.connects("a", IP), "what was learned counts for a selector that comes back"


def test_no_query_is_lost_in_a_reload() -> None:
    with rig() as made:
        stop, lost, asked = threading.Event(), [], []

        def ask() -> None:
            with made.cluster.lab.inside("a"):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sock:
                sock.settimeout(5)
                sock.connect((DNS, 53))
                while not stop.is_set():
                    number = len(asked)
                    asked.append(number)
                    sock.send(build_query(number & 0xFFFF, f"n{number % 50}.k8s.intra.", 1))
                    try:
                        if read_message(sock.recv(4096)).rcode != Rcode.NOERROR:
                            lost.append(number)
                    except OSError:
                        lost.append(number)

        thread = threading.Thread(target=ask)
        thread.start()
        log = made.cluster.lab.scratch / f"{made.agent.running.pid}.out"
        for number in range(1, 11):
            made.agent.running.send_signal(signal.SIGHUP)
            made.until(lambda wanted=number: log.read_text().count("policies reloaded") == wanted)  # type: ignore[misc]
            made.until(lambda wanted=3 * number: len(asked) > wanted)  # type: ignore[misc]
        stop.set()
        thread.join()
        assert lost == []


def test_while_the_agent_is_down_and_after() -> None:
    with rig() as made:
        made.cluster.ask("a", NAME)
        made.agent.stop(signal.SIGKILL)
        assert made.cluster.connects("b", IP), "what was learned stays allowed"
        assert not made.cluster.reaches("a", OTHER), "nothing opens up"
        with made.cluster.lab.inside("a"):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.sendto(build_query(1, NAME, 1), (DNS, 53))
        made.until(lambda: made.agent.drops()["proxy_down"] == 1)
        before = made.agent.drops()
        made.agent.start()
        assert made.agent.drops() == before, "counters go on"
        assert made.cluster.connects("b", IP)
        (row,) = made.agent.ask("cache-list")["rows"]  # type: ignore[misc]
        assert row[2] == NAME
        assert made.agent.stop() == 0
        done = made.cluster.lab.must("node1", [sys.executable, "-m", "deadhop", "fqdn", "agent", "--cleanup"])
        assert "removed nftables table" in done
        assert made.cluster.connects("a", OTHER), "without rules everything passes"
        assert made.cluster.lab.must("node1", ["nft", "list", "tables"]) == ""
        assert "0x200" not in made.cluster.lab.must("node1", ["ip", "rule"])


def test_concurrency_limit_and_reject_code() -> None:
    options = ("--dnsproxy-concurrency-limit", "1", "--tofqdns-dns-reject-response-code", "nameError")
    with rig(*options, policy=allow_names("*.k8s.intra", dns=("*.k8s.intra",))) as made:
        answer = made.cluster.ask("a", "evil.com.")
        assert answer is not None and answer.rcode == Rcode.NXDOMAIN  # noqa: PT018
        made.server.handler = lambda query: [] if b"slow" in query else honest(query)
        with made.cluster.lab.inside("b"):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.sendto(build_query(1, "slow.k8s.intra.", 1), (DNS, 53))
            made.until(lambda: made.count("forwarded") == 1)
            answer = made.cluster.ask("a", NAME)
        assert answer is not None
        assert answer.rcode == Rcode.SERVFAIL
        assert made.count("semaphore_rejected") == 1


def test_no_server_at_the_port() -> None:
    with rig() as made:
        made.server.close()
        for tcp in (False, True):
            answer = made.cluster.ask("a", NAME, tcp=tcp)
            assert answer is not None
            assert answer.rcode == Rcode.SERVFAIL


def test_metrics_and_health() -> None:
    with rig("--metrics-port", "19967") as made:
        made.cluster.ask("a", NAME)
        made.cluster.reaches("a", OTHER)

        def fetch(path: str) -> str:
            code = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:19967{path}').read().decode())"
            return made.cluster.lab.must("node1", [sys.executable, "-c", code])

        assert fetch("/healthz").strip() == "ok"
        text = fetch("/metrics")
        assert "deadhop_fqdn_learned_total 1.0" in text
        assert 'deadhop_fqdn_dropped_packets_total{reason="policy_denied"}' in text
        assert "k8s.intra" not in text
        assert IP not in text


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--endpoint", "x"), "NAME=netns:PATH"),
        (("--endpoint", "x=netns:/nowhere"), "there is no namespace at /nowhere"),
        (("--tofqdns-min-ttl", "soon"), "tofqdns-min-ttl"),
        (("--cilium-version", "latest"), "not a Cilium version"),
    ],
)
def test_usage(shared: Rig, arguments: tuple[str, ...], said: str) -> None:
    argv = [sys.executable, "-m", "deadhop", "fqdn", "agent", "--policy", str(shared.agent.policy)]
    if "--endpoint" not in arguments:
        argv += ["--endpoint", f"default/a=netns:{shared.cluster.lab.path('a')}"]
    done = shared.cluster.lab.run("node1", [*argv, *arguments])
    assert done.returncode == 2
    assert said in done.stdout
