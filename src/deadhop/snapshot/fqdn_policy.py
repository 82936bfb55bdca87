"""What the evidence shows of FQDN policy: the selectors, whether DNS is inspected, which names hold which addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from deadhop.fqdn.options import V1_16, Version
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.observed.kube import KubeObject, mapping, mappings
from deadhop.model.observed.policy import FqdnSelector
from deadhop.model.record import Record

#: Assumed where the evidence names no Cilium version; ``*`` covers one label in every release.
ASSUMED = V1_16


class Selector(NamedTuple):
    """One toFQDNs selector and the record that shows it."""

    core: FQDNSelector
    record: Record

    @property
    def text(self) -> str:
        return self.core.match_name or self.core.match_pattern

    def matches(self, name: str, version: Version = ASSUMED) -> bool:
        """Whether the selector matches ``name`` (with or without its final dot)."""
        try:
            return self.core.compile(version).matches(name.rstrip(".").lower() + ".")
        except ValueError:
            return False


def rules(policy: KubeObject, direction: str = "egress") -> Iterator[dict[str, Any]]:
    """The rules of one direction of a Cilium policy, over ``spec`` and ``specs``."""
    for spec in (policy.spec, *mappings(policy.raw, "specs")):
        yield from mappings(spec, direction)


def selectors(listed: Iterable[FqdnSelector], policies: Iterable[KubeObject]) -> list[Selector]:
    """Every selector shown by ``fqdn names`` or written in a policy, each once by text."""
    found: dict[str, Selector] = {}
    for row in listed:
        made = Selector(FQDNSelector(row.match_name, row.match_pattern), row)
        found.setdefault(made.text, made)
    for policy in policies:
        for rule in rules(policy):
            for item in mappings(rule, "toFQDNs"):
                if item:
                    made = Selector(FQDNSelector.read(item), policy)
                    if made.text:
                        found.setdefault(made.text, made)
    return list(found.values())


def ports(rule: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """``(port, protocol, L7 rules)`` of every toPorts item of a rule."""
    found = []
    for item in mappings(rule, "toPorts"):
        for port in mappings(item, "ports"):
            found.append(
                (str(port.get("port", "")), str(port.get("protocol", "ANY")).upper(), mapping(item, "rules"))
            )
    return found


def inspects_dns(policies: Iterable[KubeObject]) -> bool:
    """Whether some rule sends DNS through the proxy (rules.dns)."""
    return any(
        l7.get("dns") is not None
        for policy in policies
        for rule in rules(policy)
        for _p, _t, l7 in ports(rule)
    )
