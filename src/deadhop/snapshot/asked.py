"""Who asked which name, from any record that shows a query: server logs, flows, captures.

Names are taken apart into what was meant and the search suffix that a resolver put behind it, and queries of one
client are grouped into runs: one run per lookup of an application, told apart by what is asked again and by type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from deadhop.model.observed.dns import DnsQuery, ResolvConf
from deadhop.model.observed.packets import CapturedPacket
from deadhop.model.observed.policy import Flow
from deadhop.model.record import Record


@dataclass(frozen=True)
class Asked:
    """One question. ``rcode`` is empty where no answer was seen; ``base`` is the name without a search suffix."""

    client: str
    qname: str
    qtype: str
    rcode: str
    record: Record
    base: str = ""
    port: int | None = None

    @property
    def expanded(self) -> bool:
        return self.base != self.qname


@dataclass
class Run:
    """The questions of one lookup, in order. ``root`` is the first name that was meant."""

    client: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def root(self) -> str:
        return self.asked[0].base

    def bases(self, *qtypes: str) -> dict[str, list[Asked]]:
        """The names that were meant, in order, with their questions of the given types."""
        found: dict[str, list[Asked]] = defaultdict(list)
        for question in self.asked:
            if not qtypes or question.qtype in qtypes:
                found[question.base].append(question)
        return dict(found)

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(a.record for a in self.asked)


def questions(
    queries: Iterable[DnsQuery] = (),
    flows: Iterable[Flow] = (),
    packets: Iterable[CapturedPacket] = (),
    resolv: Iterable[ResolvConf] = (),
) -> list[Asked]:
    """Every question in the records, in order, with the search suffix taken off where it can be told."""
    raw: list[Asked] = [Asked(q.client, q.qname, q.qtype, q.rcode, q, port=q.client_port) for q in queries]
    flows = list(flows)
    seen = {(f.src.name or f.src.ip, f.dns.qname, t) for f in flows if f.dns and not f.dns.response for t in f.dns.qtypes}  # fmt: skip
    for flow in flows:
        if flow.dns and not flow.dns.response:
            raw += [Asked(flow.src.name or flow.src.ip, flow.dns.qname, t, "", flow) for t in flow.dns.qtypes]
        elif flow.dns:  # an answer names its question, which the listing may not hold
            client = flow.dst.name or flow.dst.ip
            raw += [Asked(client, flow.dns.qname, t, flow.dns.rcode, flow) for t in flow.dns.qtypes if (client, flow.dns.qname, t) not in seen]  # fmt: skip
    for packet in packets:
        if packet.dns and not packet.dns.response and packet.dns.qname:
            raw.append(Asked(packet.src, packet.dns.qname, packet.dns.qtype, "", packet, port=packet.sport))
    names = {a.qname for a in raw}
    suffixes = {s.lower().rstrip(".") for r in resolv for s in r.search if s.strip(".")} | _suffixes(names)
    return [
        Asked(a.client, a.qname, a.qtype, a.rcode, a.record, base_of(a.qname, suffixes, names), a.port)
        for a in raw
    ]


def _suffixes(names: set[str]) -> set[str]:
    """Search suffixes that the names give away: the cluster's own, and whatever follows a name that is asked bare."""
    found: set[str] = set()
    domain = next((n.partition(".svc.")[2] for n in names if ".svc." in n), "")
    for name in names:
        labels = name.split(".")
        for k in range(1, len(labels)):
            head, tail = ".".join(labels[:k]), ".".join(labels[k:])
            if "." in head and head in names and "." in tail:
                found.add(tail)
        if domain and name.endswith(f".svc.{domain}"):
            front = name.removesuffix(f".svc.{domain}").split(".")
            if len(front) > 2:
                found.add(f"{front[-1]}.svc.{domain}")
                found |= {f"svc.{domain}", domain}
    return found


def base_of(name: str, suffixes: set[str], names: set[str]) -> str:
    """The name that was meant: ``name`` without the longest search suffix behind a name that stands alone elsewhere,
    or behind a name with a dot."""
    best = name
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.endswith("." + suffix):
            head = name[: -len(suffix) - 1]
            siblings = sum(1 for s in suffixes if f"{head}.{s}" in names)
            if head in names or ("." in head and (siblings > 1 or len(suffixes) == 1)):
                best = head
                break
    return best


def runs(asked: Sequence[Asked]) -> list[Run]:
    """The lookups of every client, in order.

    A new lookup begins where the client comes back to the first name with another type than it had asked so far, or
    after that name was answered; A and AAAA count as one type, since resolvers send them side by side.
    """
    found: list[Run] = []
    current: dict[str, Run] = {}
    for question in asked:
        run = current.get(question.client)
        if run is None or _again(run, question):
            run = current[question.client] = Run(question.client)
            found.append(run)
        run.asked.append(question)
    return found


def _family(qtype: str) -> str:
    return "address" if qtype in ("A", "AAAA") else qtype


def _again(run: Run, question: Asked) -> bool:
    if question.base != run.root:
        return False
    before = [a for a in run.asked if a.base == run.root]
    if (
        _family(question.qtype) not in {_family(a.qtype) for a in before}
        and len({a.base for a in run.asked}) > 1
    ):
        return True
    same = [a for a in before if a.qname == question.qname and a.qtype == question.qtype]
    answered = [a for a in before if a.qname == run.root and a.rcode == "NOERROR"]
    return bool(same) and (bool(answered) or len(run.asked) > 4)
