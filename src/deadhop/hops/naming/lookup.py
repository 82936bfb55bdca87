"""One lookup of a pod: the questions that its library sends, what policy and CoreDNS make of each, what it is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from deadhop.fqdn.dns_rules import Expression, generate_pattern, merge
from deadhop.fqdn.options import LATEST
from deadhop.fqdn.patterns import PatternError
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.hops.dns import Client, deliver, serve
from deadhop.hops.dns.size import bufsize_of, message_of
from deadhop.hops.naming.clusterdns import ClusterDNS
from deadhop.hops.naming.podconf import PodConf
from deadhop.hops.policy import cilium
from deadhop.hops.policy.decide import decide
from deadhop.hops.policy.peers import Peer
from deadhop.hops.resolver import Ask, Lookup, Profile, Reply, resolve
from deadhop.hops.resolver.exchange import TIMEOUT
from deadhop.model.observed.kube import KubeObject, mapping, mappings
from deadhop.model.trace import Disposition, Step

POLICY = "policy"
PROXY = "fqdn"


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """How a lookup ends. ``unknown`` says why the evidence does not suffice; ``rcode`` is that of the last reply.

    ``blamed`` is the hop that kept the answer back where one did (``policy``, ``fqdn``), with the ``disposition`` of
    the connection that needs it. ``taught`` are the names under which Cilium's proxy learned the addresses.
    """

    addresses: tuple[str, ...] = ()
    error: str = ""
    rcode: str = ""
    blamed: str = ""
    disposition: Disposition = Disposition.ANSWERED
    taught: tuple[str, ...] = ()
    unknown: str = ""
    steps: tuple[Step, ...] = ()


class _Path:
    """Where the questions of one pod go: policy on the way to cluster DNS, the proxy's rules, CoreDNS."""

    def __init__(
        self, dns: ClusterDNS, client: Peer, servers: Sequence[Peer], policies: Sequence[KubeObject]
    ) -> None:
        self.dns = dns
        self.client = client
        self.servers = servers
        self.policies = policies
        self.unknown = ""
        self.dropped: Step | None = None
        self.refused: list[str] = []
        self.taught: dict[str, None] = {}
        self._rules: dict[str, tuple[bool, Expression | None]] = {}

    def answer(self, ask: Ask) -> Reply:
        """The reply to one question. Once something is not known, nothing after it is."""
        if self.unknown:
            return Reply("SERVFAIL")
        if ask.server != self.dns.server:
            self.unknown = f"what the server {ask.server} answers is not in the evidence"
            return Reply("SERVFAIL")
        protocol = ask.transport.upper()
        if not self._passes(protocol):
            return Reply(TIMEOUT)
        if not self._admitted(ask.name, protocol):
            self.refused.append(ask.name)
            return Reply("REFUSED")
        client = Client(ip=self.client.ip, namespace=self.client.namespace, transport=ask.transport)
        served = serve(self.dns.corefile, self.dns.world, ask.name, ask.type, client)
        if served.unknown:
            self.unknown = f"{ask.name} {ask.type}: {served.unknown}"
            return Reply("SERVFAIL")
        if served.rcode == "TIMEOUT":
            return Reply(TIMEOUT)
        if any(rr.type in ("A", "AAAA") for rr in served.answers):
            self.taught[ask.name] = None
        bufsize = bufsize_of(self.dns.corefile, ask.name)
        cut = deliver(message_of(served, ask.name, ask.type), client, bufsize).truncated
        return Reply(served.rcode, () if cut else served.answers, truncated=cut)

    def _passes(self, protocol: str) -> bool:
        """L3/L4 policy between the pod and the servers behind the Service."""
        verdicts = []
        for server, (_, port) in zip(self.servers, self.dns.backends, strict=True):
            found = decide(self.policies, self.client, server, port, protocol)
            verdicts.append(found)
            if found.allowed is None:
                self.unknown = f"whether policy lets the pod ask cluster DNS: {found.because}"
        if verdicts and all(v.allowed is False for v in verdicts):
            self.dropped = next((s for s in verdicts[0].steps if s.ok is False), None)
            return False
        return not self.unknown

    def _admitted(self, name: str, protocol: str) -> bool:
        """The DNS rules of Cilium's proxy (``rules.dns``), where one inspects the pod's questions."""
        if protocol not in self._rules:
            self._rules[protocol] = self._rules_for(protocol)
        inspected, expression = self._rules[protocol]
        return not inspected or expression is None or expression.matches(name.lower())

    def _rules_for(self, protocol: str) -> tuple[bool, Expression | None]:
        lists: list[list[FQDNSelector] | None] = []
        for server, (_, port) in list(zip(self.servers, self.dns.backends, strict=True))[:1]:
            for policy in self.policies:
                if policy.kind == "NetworkPolicy" or not cilium.selects(policy, self.client):
                    continue
                for item in cilium.covering(policy, "egress", server, port, protocol):
                    rules = mapping(item, "rules").get("dns")
                    lists.append(
                        None
                        if rules is None
                        else list(map(FQDNSelector.read, mappings(item, "rules", "dns")))
                    )
        merged = merge(lists)
        try:
            return merged is not None, generate_pattern(merged, LATEST) if merged is not None else None
        except PatternError:
            return False, None

    @property
    def inspected(self) -> bool:
        return any(inspected for inspected, _ in self._rules.values())


def look_up(
    dns: ClusterDNS,
    conf: PodConf,
    profile: Profile,
    name: str,
    client: Peer,
    servers: Sequence[Peer],
    policies: Iterable[KubeObject],
) -> Resolved:
    """Walk one lookup. ``servers`` are the pods behind cluster DNS, in the order of ``dns.backends``."""
    if conf.unknown:
        return Resolved(unknown=conf.unknown)
    path = _Path(dns, client, servers, list(policies))
    found, _ = resolve(profile, conf.conf, name, path.answer)
    steps = [*_steps(dns, profile, found), *([path.dropped] if path.dropped else [])]
    if path.unknown:
        return Resolved(unknown=path.unknown, steps=tuple(steps))
    rcode = found.sent[-1].rcode if found.sent else ""
    if not found.told.error:
        taught = tuple(path.taught) if path.inspected else ()
        return Resolved(
            addresses=found.told.addresses,
            rcode=rcode,
            taught=taught,
            steps=tuple(steps),
        )
    if path.dropped is not None:
        return Resolved(
            error=found.told.error,
            rcode=rcode,
            blamed=POLICY,
            disposition=Disposition.DROPPED,
            steps=tuple(steps),
        )
    if not conf.complete and found.told.error:
        steps.append(Step(decided_by="resolver", text="the node's own search domains, which would follow, are not in the evidence", ok=None))  # fmt: skip
    blamed = PROXY if path.refused else ""
    return Resolved(error=found.told.error, rcode=rcode, blamed=blamed, steps=tuple(steps))


def _steps(dns: ClusterDNS, profile: Profile, found: Lookup) -> list[Step]:
    """One step for each name asked, in order, and what the application is told."""
    asked: dict[tuple[str, str], list[str]] = {}
    for sent in found.sent:
        asked.setdefault((sent.name, sent.rcode), []).append(f"{sent.type}/{sent.transport}")
    steps = [
        Step(
            decided_by=f"{profile.name} and {dns.where}",
            text=f"{name} ({', '.join(dict.fromkeys(how))}): {rcode}",
            ok=True if rcode == "NOERROR" else None,
        )
        for (name, rcode), how in asked.items()
    ]
    told = ", ".join(found.told.addresses) or found.told.error
    steps.append(
        Step(decided_by=profile.name, text=f"the application is told {told}", ok=not found.told.error)
    )
    return steps
