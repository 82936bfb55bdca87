"""Which destinations a node's masquerading leaves alone: rules of kube-proxy-like chains and of ip-masq-agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deadhop.model.netfilter import IptablesTable
from deadhop.model.observed.firewall import FirewallRule
from deadhop.model.record import Record
from deadhop.snapshot.firewall import Row, network, rules, within


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


def returned_networks(
    tables: Iterable[IptablesTable], pods: list[str], nft: Iterable[FirewallRule] = ()
) -> Iterator[tuple[str, str, Record]]:
    """Networks for which a chain returns before its last rule masquerades, and that are not the pods' own: each with a
    pods' network and its record. They hold the pods' network and more, or other places alone; a network within the
    pods' is left out, and so are link-local addresses, which are never to be masqueraded."""
    listed = [(rules([t]), t.name) for t in tables]
    by_table: dict[tuple[str, str], list[FirewallRule]] = {}
    for rule in nft:
        by_table.setdefault((rule.where, rule.table), []).append(rule)
    listed += [(rules([], found), table) for (_where, table), found in by_table.items()]
    for rows in (rows for rows, table in listed if table in ("nat", "")):
        for chain in {r.chain for r in rows if _takes_the_rest(r)}:
            for row in rows:
                if row.chain != chain or row.target.upper() not in ("RETURN", "ACCEPT") or row.src or not _elsewhere(row.dst):  # fmt: skip
                    continue
                yield from ((pod, row.dst, row.record) for pod in pods if not within(row.dst, pod))


def _takes_the_rest(row: Row) -> bool:
    return row.target.upper() == "MASQUERADE" and not (row.src or row.dst) and "mark" not in row.text


def _elsewhere(dst: str) -> bool:
    net = network(dst) if dst and not dst.startswith("!") else None
    return net is not None and not (net.is_link_local or net.is_loopback or net.is_multicast)


def _bound(row: Row) -> bool:
    return (
        "mark" in row.text or bool(row.out_dev and not row.out_dev.startswith("!")) or row.src.endswith("/32")
    )
