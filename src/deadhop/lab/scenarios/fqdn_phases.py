"""What a toFQDNs policy allows on two nodes, before and after lookups and before and after a record changes.

Each check is a real lookup or connection of a pod, judged by a real agent on each node.
"""

from __future__ import annotations

import time
from pathlib import Path

from deadhop.lab.scenarios._fqdn import (
    DNS,
    AgentProcess,
    Cluster,
    addresses,
    allow_names,
    coredns,
    missing,
)
from deadhop.lab.topology.made import Lab
from deadhop.lab.topology.story import Story

TITLE = "toFQDNs: who may connect before and after lookups, and after the record changes"
NAME = "echo.k8s.intra."
OLD, NEW = "203.0.113.10", "203.0.113.20"
TTL = 1
COREFILE = """.:53 {{
    bind {ip}
    hosts {path} {{
        ttl {ttl}
        reload 100ms
    }}
}}
"""

__all__ = ["TITLE", "missing", "run"]


def publish(cluster: Cluster, story: Story, ip: str) -> None:
    """Change the record, and wait until the server answers with it."""
    if coredns():
        cluster.zone.write_text(f"{ip} {NAME.rstrip('.')}\n")
    else:
        cluster.records([f"{NAME} {TTL} A {ip}"])
    while addresses(cluster.ask("outside", NAME)) != [ip]:
        time.sleep(0.05)
    story.saw(f"{NAME} is {ip}, TTL {TTL} s", "record")


def serve(cluster: Cluster, story: Story) -> None:
    binary = coredns()
    cluster.zone.write_text("")
    if binary:
        story.saw("a real CoreDNS with a hosts file", "server")
        cluster.serve_coredns(binary, COREFILE.format(ip=DNS, path=cluster.zone, ttl=TTL))
    else:
        story.saw("deadhop's own server: there is no CoreDNS here", "server")
        cluster.serve_zone()


def expire(agent: AgentProcess, source: str, name: str) -> bool:
    """Run the two clean-ups until the name is there by ``source`` only (empty: not at all)."""
    for _ in range(40):
        agent.ask("collect")
        found = {row[1] for row in agent.ask("cache-list")["rows"] if row[2] == name}  # type: ignore[attr-defined]
        if found == ({source} if source else set()):
            return True
        time.sleep(0.25)  # a TTL has to pass
    return False


def run(story: Story, lab: Lab, keep: Path) -> None:
    """Play the two phases and the end of a lookup."""
    cluster = Cluster(lab)
    for node, pods in (("node1", ("a", "b")), ("node2", ("c",))):
        cluster.add_node(node)
        for pod in pods:
            cluster.add_pod(node, pod)
    serve(cluster, story)
    cluster.serve_web(OLD)
    cluster.serve_web(NEW)
    policy = allow_names("*.k8s.intra")
    first = AgentProcess(cluster, "node1", policy, {"a": "app=web", "b": "app=web"})
    second = AgentProcess(cluster, "node2", policy, {"c": "app=web"})
    publish(cluster, story, OLD)

    story.step("Without a policy everything connects")
    story.check(f"a reaches {OLD}", cluster.connects("a", OLD))

    story.step("The policy: DNS through the proxy, connections to *.k8s.intra")
    story.saw(policy, "policy")
    first.start()
    second.start()
    story.check(f"before any lookup a does not reach {OLD}", not cluster.reaches("a", OLD))

    story.step(f"Pod a looks up {NAME}")
    story.check(f"the answer is {OLD}", addresses(cluster.ask("a", NAME)) == [OLD])
    story.check(f"a reaches {OLD}", cluster.connects("a", OLD))
    story.check(f"b, on the same node, reaches {OLD} without a lookup", cluster.connects("b", OLD))
    story.check(f"c, on the other node, does not reach {OLD}", not cluster.reaches("c", OLD))
    story.saw(first.command("fqdn", "cache", "list"), "cache")

    story.step("The record changes")
    publish(cluster, story, NEW)
    story.check(f"before a lookup a does not reach {NEW}", not cluster.reaches("a", NEW))
    cluster.ask("a", NAME)
    story.check(f"after it a reaches the new address {NEW}", cluster.connects("a", NEW))
    held = cluster.connect("a", OLD)
    story.check(f"and the old address {OLD}", held is not None)
    cluster.ask("c", NAME)
    story.check(f"c, asking for the first time, reaches {NEW}", cluster.connects("c", NEW))
    story.check(f"c does not reach the old address {OLD}", not cluster.reaches("c", OLD))

    story.step("The lookups run out while a holds a connection to the old address")
    story.check("the name stays by its connection", expire(first, "connection", NAME))
    story.saw(first.command("fqdn", "cache", "list"), "cache")
    if held is not None:
        held.sendall(b"GET / HTTP/1.0\r\n\r\n")
        story.check("the open connection carries data", held.recv(4096).startswith(b"HTTP/1.1 200"))
        held.close()
    story.check("when it is closed the name goes", expire(first, "", NAME))
    story.check(f"a new connection to {OLD} is denied", not cluster.reaches("a", OLD))

    story.step("The same with tofqdns-min-ttl 3600")
    first.stop()
    first.start("--tofqdns-min-ttl", "3600")
    cluster.ask("a", NAME)
    first.ask("collect")
    rows = [row for row in first.ask("cache-list")["rows"] if row[2] == NAME]  # type: ignore[attr-defined]
    story.check("the lookup is kept for an hour", [row[3] for row in rows] == [3600], str(rows))
    story.check(f"b reaches {NEW}", cluster.connects("b", NEW))
    story.saw(first.command("observe", "--last", "12"), "flows")
    (keep / "hubble-node1.json").write_text(first.command("observe", "--last", "10000", "-o", "jsonpb"))
    (keep / "hubble-node2.json").write_text(second.command("observe", "--last", "10000", "-o", "jsonpb"))
    (keep / "policy.yaml").write_text(policy)
