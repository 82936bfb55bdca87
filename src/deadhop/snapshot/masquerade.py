"""Which destinations a node's masquerading leaves alone: rules of kube-proxy-like chains and of ip-masq-agent."""

from __future__ import annotations

from collections.abc import Iterable

from deadhop.model.record import Record
from deadhop.snapshot.firewall import Row, within


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


def _bound(row: Row) -> bool:
    return (
        "mark" in row.text or bool(row.out_dev and not row.out_dev.startswith("!")) or row.src.endswith("/32")
    )
