"""A zone, a policy and the steps of a day, from end to end."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from deadhop.fqdn import answers
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.node import Node
from deadhop.fqdn.options import Version, options_for
from deadhop.fqdn.policy import CIDRAllow, DNSAllow, EgressPolicy, FQDNAllow
from deadhop.model.dns import RR, Message, Question

from .common import Area, UnknownOperation, Vector, rules_of, same


class World:
    """A zone, a policy and two endpoints of one node."""

    def __init__(self, vector: Vector, version: Version) -> None:
        self.version = version
        zone = vector["zone"]
        self.ttl = zone.get("ttl", 30)
        self.records: dict[str, list[tuple[str, str]]] = {}
        self.addresses: dict[str, str] = {}
        for owner, kind, data in zone["records"]:
            for value in data if isinstance(data, list) else [data]:
                target = value if kind == "CNAME" else self.address(value)
                if kind == "CNAME" and not target.endswith("."):
                    target = f"{target}.{owner.partition('.')[2]}"
                self.records.setdefault(owner.lower(), []).append((kind, target.lower()))
        self.node = Node(version, options_for(version)[0])
        self.policy = self.policy_of(vector["policy"])
        self.now = 0.0
        for endpoint in (1, 2):
            self.node.apply(endpoint, self.policy)

    def address(self, name: str) -> str:
        try:
            return str(ip_address(name))
        except ValueError:
            return self.addresses.setdefault(name, f"198.51.100.{len(self.addresses) + 1}")

    def policy_of(self, item: Vector) -> EgressPolicy:
        dns = item.get("dns_rules_port53")
        extra = item.get("extra_egress") or {}
        if unknown := set(extra) - {"toCIDRSet", "toCIDR", "toEntities"}:
            raise UnknownOperation(f"egress {unknown}")
        listed = [*(i["cidr"] for i in extra.get("toCIDRSet", [])), *extra.get("toCIDR", [])]
        if {"world", "all"} & set(extra.get("toEntities", [])):
            listed += ["0.0.0.0/0", "::/0"]
        cidrs = []
        for text in listed:
            ip, _slash, bits = text.partition("/")
            cidrs.append(CIDRAllow(cidr=f"{self.address(ip)}/{bits}"))
        return EgressPolicy(
            dns=() if dns is None else (DNSAllow(rules=rules_of(dns)),),
            fqdns=(FQDNAllow(selectors=rules_of(item.get("toFQDNs") or []) or ()),),
            cidrs=tuple(cidrs),
        )

    def answer(self, qname: str, qtype: str) -> Message:
        chain: list[RR] = []
        at, seen = qname, set()
        while at not in seen:
            seen.add(at)
            records = self.records.get(at, [])
            chain.extend(RR(at, self.ttl, kind, data) for kind, data in records if kind in (qtype, "CNAME"))
            at = next((data for kind, data in records if kind == "CNAME"), at)
        return Message(
            response=True,
            rcode=0 if qname in self.records else 3,
            questions=(Question(qname, qtype),),
            answers=tuple(chain),
        )

    def resolve(self, endpoint: int, name: str, *, intercepted: bool = True) -> list[str] | None:
        """The addresses that the endpoint is told, None where the query is refused or lost."""
        answer = self.answer(fqdn(name), "A")
        addresses = [rr.data for rr in answer.answers if rr.type == "A"]
        if not intercepted:
            return addresses
        outcome = self.node.query(endpoint, name, server="10.96.0.10")
        if not outcome.answered:
            return None
        if outcome == "forwarded":
            self.node.response(endpoint, answers.extract_response(answer, self.version), self.now)
        return addresses

    def connect(self, endpoint: int, ip: str) -> str:
        return "allowed" if self.node.connect(endpoint, ip, port=80) else "denied"

    def step(self, step: Vector) -> None:
        self.now += step.get("advance", 1)
        wanted = step.get("expected")
        if step.get("gc"):
            self.node.dns_gc(self.now)
        elif "policy" in step:
            self.policy = self.policy_of(step["policy"])
            for endpoint in (1, 2):
                self.node.apply(endpoint, self.policy)
        elif "resolve_and_connect" in step:
            for _ in range(step.get("times", 1)):
                for endpoint in range(1, step.get("endpoints", 1) + 1):
                    same(self.resolve_and_connect(endpoint, step), wanted, str(step))
        elif "connect_ip" in step:
            same(self.connect(1, self.address(step["connect_ip"])), wanted, str(step))
        elif "query" in step:
            addresses = self.resolve(1, step["query"])
            if "then_connect" in step:
                same(self.connect(1, self.address(step["then_connect"])), wanted, str(step))
            else:
                refused = wanted if wanted in ("refused", "denied") else "denied"
                same(refused if addresses is None else "allowed", wanted, str(step))
        else:
            raise UnknownOperation(str(step))

    def resolve_and_connect(self, endpoint: int, step: Vector) -> str:
        before = step.get("before_policy", False)
        addresses = self.resolve(endpoint, step["resolve_and_connect"], intercepted=not before)
        if not addresses:
            return "denied"
        if before:
            return "allowed"
        return "allowed" if all(self.connect(endpoint, ip) == "allowed" for ip in addresses) else "denied"


def e2e_scenario(v: Vector, version: Version, _: Any) -> None:
    world = World(v, version)
    for step in v["steps"]:
        world.step(step)


AREAS: dict[str, Area] = {
    "e2e_scenario": e2e_scenario,
}
