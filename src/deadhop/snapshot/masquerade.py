"""Which destinations a node's masquerading leaves alone: rules of kube-proxy-like chains and of ip-masq-agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deadhop.model.netfilter import IptablesTable
from deadhop.model.record import Record
from deadhop.snapshot.firewall import Row, rules, within


def masquerades(rows: Iterable[Row], address: str) -> list[Record]:
    """The rules that would masquerade packets to ``address``, judged chain by chain.

    A RETURN or ACCEPT for the address ends its chain, a negated ``-d`` excludes what it holds. Rules that are bound to a
    mark, a device or one source address are left out: they are not for pods' traffic in general (kube-proxy's
    KUBE-POSTROUTING acts on marked packets alone).
    """
    found: list[Record] = []
    ended: set[tuple[int, str]] = set()
    for row in rows:
        if row.table not in ("nat", ""):
            continue
        key = (id(row.record) if not row.chain else 0, row.chain)
        if key in ended or _bound(row):
            continue
        applies = not row.dst or (within(address, row.dst) != row.dst.startswith("!"))
        if not applies:
            continue
        if row.target.upper() in ("RETURN", "ACCEPT"):
            ended.add(key)
        elif row.target.upper() in ("MASQUERADE", "SNAT"):
            found.append(row.record)
    return found


def returned_networks(tables: Iterable[IptablesTable], pods: list[str]) -> Iterator[tuple[str, str, Record]]:
    """Networks for which a chain returns before its last rule masquerades, and that hold the pods' network."""
    for table in (t for t in tables if t.name in ("nat", "")):
        rows = rules([table])
        for chain in {r.chain for r in rows if r.target == "MASQUERADE" and not (r.src or r.dst) and "mark" not in r.text}:  # fmt: skip
            for row in rows:
                if row.chain == chain and row.target in ("RETURN", "ACCEPT") and not row.src and not row.dst.startswith("!"):  # fmt: skip
                    yield from ((pod, row.dst, table) for pod in pods if row.dst and within(pod, row.dst) and pod != row.dst)  # fmt: skip


def _bound(row: Row) -> bool:
    return (
        "mark" in row.text or bool(row.out_dev and not row.out_dev.startswith("!")) or row.src.endswith("/32")
    )
