"""A client that asks CNAME first and follows it itself is denied for a name that the policy allows.

The proxy files addresses under the name that was asked. The client below asks for the alias's CNAME, then for the
target's address, so the policy's name never has an address. The same client asking for A first passes.
"""

from __future__ import annotations

from pathlib import Path

from deadhop.lab.scenarios._fqdn import AgentProcess, Cluster, addresses, allow_names, coredns, missing
from deadhop.lab.topology.made import Lab
from deadhop.lab.topology.story import Story
from deadhop.model.dns import Message

TITLE = "toFQDNs and a client that asks for the CNAME first: denied; the same client asking A first: allowed"
ALIAS, TARGET, IP = "api.partner.example.", "edge.cdn.example.", "203.0.113.80"
COREFILE = ".:53 {{\n    bind {ip}\n    file {alias} partner.example\n    file {target} cdn.example\n}}\n"
_HEAD = "@ 30 IN SOA ns h 1 60 60 60 60\n@ 30 IN NS ns\nns 30 IN A 203.0.113.53\n"

__all__ = ["TITLE", "missing", "run"]


def serve(cluster: Cluster, story: Story) -> None:
    from deadhop.lab.scenarios._fqdn import DNS

    binary = coredns()
    if not binary:
        story.saw("deadhop's own server: there is no CoreDNS here", "server")
        cluster.records([f"{ALIAS} 30 CNAME {TARGET}", f"{TARGET} 30 A {IP}"])
        cluster.serve_zone()
        return
    story.saw("a real CoreDNS with two zones", "server")
    scratch = cluster.lab.scratch
    (scratch / "alias").write_text(f"$ORIGIN partner.example.\n{_HEAD}api 30 IN CNAME {TARGET}\n")
    (scratch / "target").write_text(f"$ORIGIN cdn.example.\n{_HEAD}edge 30 IN A {IP}\n")
    corefile = COREFILE.format(ip=DNS, alias=scratch / "alias", target=scratch / "target")
    cluster.serve_coredns(binary, corefile)


def cnames(message: Message | None) -> list[str]:
    return [rr.data for rr in message.answers if rr.type == "CNAME"] if message else []


def resolve(cluster: Cluster, pod: str, order: tuple[str, ...]) -> list[str]:
    """What the client finds for the alias: each type of ``order`` in turn, CNAMEs followed by itself."""
    name = ALIAS
    for _ in range(4):
        for rtype in order:
            reply = cluster.ask(pod, name, rtype)
            if rtype == "A" and addresses(reply):
                return addresses(reply)
            if rtype == "CNAME" and cnames(reply):
                name = cnames(reply)[0]
                break
    return []


def run(story: Story, lab: Lab, keep: Path) -> None:
    """Play both orders and the policy that names the target."""
    cluster = Cluster(lab)
    cluster.add_node("node1")
    cluster.add_pod("node1", "gateway")
    serve(cluster, story)
    cluster.serve_web(IP)
    policy = allow_names("*.partner.example")
    agent = AgentProcess(cluster, "node1", policy, {"gateway": "app=web"})
    agent.start()

    story.step("The client asks CNAME first and follows it")
    found = resolve(cluster, "gateway", ("CNAME", "A"))
    story.check(f"it finds {IP}", found == [IP], str(found))
    story.check("its connection is denied", not cluster.reaches("gateway", IP))
    listing = agent.command("fqdn", "cache", "list")
    story.saw(listing, "cache")
    story.check(f"{TARGET} has the address", TARGET in listing)
    story.check(f"{ALIAS}, the policy's name, has none", ALIAS not in listing)
    (keep / "denied.json").write_text(agent.command("observe", "--last", "10000", "-o", "jsonpb"))

    story.step("The same client asks A first")
    agent.command("fqdn", "cache", "clean", "-f")
    found = resolve(cluster, "gateway", ("A", "CNAME"))
    story.check(f"it finds {IP}", found == [IP], str(found))
    story.check("its connection is allowed", cluster.connects("gateway", IP))
    story.saw(agent.command("fqdn", "cache", "list"), "cache")
    story.saw(agent.command("observe", "--last", "14"), "flows")
    (keep / "allowed.json").write_text(agent.command("observe", "--last", "10000", "-o", "jsonpb"))
    (keep / "policy.yaml").write_text(policy)
