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
    KUBE-POSTROUTING acts on marked packets alone), and so are chains to which no jump leads for the address.
    """
    rows = list(rows)
    found: list[Record] = []
    ended: set[tuple[int, str]] = set()
    for row in rows:
        if row.table not in ("nat", ""):
            continue
        key = (id(row.record) if not row.chain else 0, row.chain)
        if key in ended or _bound(row):
            continue
        if not _applies(row, address) or not _entered(rows, row.chain, address):
            continue
        if row.target.upper() in ("RETURN", "ACCEPT"):
            ended.add(key)
        elif row.target.upper() in ("MASQUERADE", "SNAT"):
            found.append(row.record)
    return found


def _applies(row: Row, address: str) -> bool:
    return not row.dst or (within(address, row.dst) != row.dst.startswith("!"))


def _entered(rows: list[Row], chain: str, address: str) -> bool:
    """Whether packets to ``address`` come into a chain: where jumps to it are shown, by one of them."""
    jumps = [r for r in rows if r.target == chain] if chain else []
    return not jumps or any(_applies(r, address) for r in jumps)


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
