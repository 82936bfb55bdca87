"""What ``toFQDNs`` opens for one connection: an address is allowed by the names under which the proxy learned it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deadhop.fqdn.options import LATEST
from deadhop.fqdn.patterns import PatternError
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.policy import cilium
from deadhop.hops.policy.peers import Peer
from deadhop.model.observed.kube import KubeObject
from deadhop.model.trace import Step


def by_name(
    policies: Iterable[KubeObject],
    source: Peer,
    address: str,
    port: int,
    protocol: str,
    taught: Sequence[str] | None,
) -> tuple[bool | None, Step | None]:
    """Whether names open what addresses and labels do not. ``taught`` None: what the proxy learned is not known.

    (False, None) where no selector of the pod's policies covers the port.
    """
    selectors = [
        (policy, FQDNSelector.read(item))
        for policy in policies
        if policy.kind != "NetworkPolicy" and cilium.selects(policy, source)
        for item in cilium.names_for(policy, port, protocol)
    ]
    if not selectors:
        return False, None
    if taught is None:
        text = f"toFQDNs opens {address} only where the DNS proxy has learned it; the evidence does not say"
        return None, Step(decided_by=selectors[0][0].ref, text=text, ok=None)
    for policy, selector in selectors:
        try:
            pattern = selector.compile(LATEST)
        except PatternError:
            continue
        name = next((n for n in taught if pattern.matches(n.lower())), "")
        if name:
            text = f"{selector} matches {name}, under which the DNS proxy learned {address}"
            return True, Step(decided_by=policy.ref, text=text, sources=(policy.source,))
    names = ", ".join(taught) or "no name"
    text = f"no toFQDNs selector matches what the DNS proxy learned {address} under ({names})"
    return False, Step(decided_by=selectors[0][0].ref, text=text, ok=False, sources=(selectors[0][0].source,))
