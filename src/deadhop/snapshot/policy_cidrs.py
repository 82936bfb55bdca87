"""The address blocks that policies list, and what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from deadhop.evidence.fields import is_ip
from deadhop.model.observed.kube import KubeObject, listing, mapping, mappings


def holds(cidr: str, address: str) -> bool:
    """Whether a block holds an address; False where either is not one."""
    if not is_ip(address.partition("/")[0]):
        return False
    try:
        return ip_address(address) in ip_network(cidr, strict=False)
    except (ValueError, TypeError):
        return False


def blocks(policy: KubeObject, direction: str) -> Iterator[str]:
    """Every CIDR of one direction of a Kubernetes or Cilium policy."""
    side, key = ("from", "from") if direction == "ingress" else ("to", "to")
    for spec in (policy.spec, *mappings(policy.raw, "specs")):
        for rule in mappings(spec, direction):
            for peer in mappings(rule, key):
                if block := mapping(peer, "ipBlock").get("cidr"):
                    yield str(block)
            yield from (str(c) for c in listing(rule, side + "CIDR") if isinstance(c, str))
            for block in mappings(rule, side + "CIDRSet"):
                if block.get("cidr"):
                    yield str(block["cidr"])


def listing_address(
    policies: Iterable[KubeObject], direction: str, address: str
) -> list[tuple[KubeObject, str]]:
    """The policies whose blocks hold an address, each with its first such block."""
    found = []
    for policy in policies:
        cidr = next((c for c in blocks(policy, direction) if holds(c, address)), "")
        if cidr:
            found.append((policy, cidr))
    return found


def entities(policy: KubeObject, direction: str) -> list[Any]:
    """The entities that a Cilium policy allows in a direction."""
    key = "fromEntities" if direction == "ingress" else "toEntities"
    return [
        entity
        for spec in (policy.spec, *mappings(policy.raw, "specs"))
        for rule in mappings(spec, direction)
        for entity in listing(rule, key)
    ]
