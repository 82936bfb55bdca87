"""What policy engines show: FQDN cache, selectors, flows, drops, identities; mostly Cilium's."""

from __future__ import annotations

import msgspec

from deadhop.model.record import Record


class FqdnCacheEntry(Record, frozen=True, kw_only=True):
    """One row of ``cilium-dbg fqdn cache list``. ``kind`` is lookup, connection or global; ``ttl`` in seconds."""

    endpoint: int | None = None
    kind: str = "lookup"
    fqdn: str
    ttl: int | None = None
    expiration: str = ""
    ips: tuple[str, ...] = ()


class FqdnCacheListing(Record, frozen=True, kw_only=True):
    """That the whole cache was listed (so that a missing name is a fact). ``rows`` counts the entries shown."""

    rows: int
    complete: bool = True


class FqdnSelector(Record, frozen=True, kw_only=True):
    """One selector of ``fqdn names``, or a name that another engine's policy allows."""

    match_name: str = ""
    match_pattern: str = ""
    regex: str = ""

    @property
    def text(self) -> str:
        return self.match_name or self.match_pattern


class FlowEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a flow. ``name`` is ``namespace/pod`` or a DNS or service name; ``identity`` a number or a
    reserved name (``world``, ``host``, ``remote-node``, ``kube-apiserver``)."""

    name: str = ""
    ip: str = ""
    port: int | None = None
    identity: str = ""
    labels: tuple[str, ...] = ()


class DnsFlow(msgspec.Struct, frozen=True, kw_only=True):
    """The L7 part of a DNS flow."""

    qname: str
    qtypes: tuple[str, ...] = ()
    response: bool = False
    rcode: str = ""
    ips: tuple[str, ...] = ()
    cnames: tuple[str, ...] = ()
    ttl: int | None = None
    source: str = ""


class Flow(Record, frozen=True, kw_only=True):
    """A flow of hubble, of the monitor's verdicts, or of another engine's log.

    ``event`` is the type column (``dns-request proxy``, ``policy-verdict:none EGRESS``).
    """

    node: str = ""
    src: FlowEnd
    dst: FlowEnd
    reply: bool | None = None
    event: str = ""
    verdict: str = ""
    proto: str = ""
    tcp_flags: str = ""
    direction: str = ""
    drop_reason: str = ""
    summary: str = ""
    dns: DnsFlow | None = None

    @property
    def denied(self) -> bool:
        return self.verdict == "DROPPED" or "DENIED" in self.verdict


class CiliumEvent(Record, frozen=True, kw_only=True):
    """A line of ``cilium-dbg monitor``: a drop (``verdict`` DROPPED with ``reason``) or a forwarded packet."""

    verdict: str
    reason: str = ""
    src_identity: str = ""
    dst_identity: str = ""
    src: str = ""
    sport: int | None = None
    dst: str = ""
    dport: int | None = None
    proto: str = ""
    endpoint: str = ""
    dev: str = ""
    state: str = ""
    text: str = ""


class CiliumIdentity(Record, frozen=True, kw_only=True):
    """An identity with its labels, or an address with its identity (``ip list``, ``bpf ipcache list``)."""

    identity: str
    labels: tuple[str, ...] = ()
    prefix: str = ""


class CiliumOption(Record, frozen=True, kw_only=True):
    """One key of ``cilium-config``, Helm values or ``cilium-dbg status``."""

    key: str
    value: str
