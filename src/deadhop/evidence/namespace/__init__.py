"""One namespace's folder: ``ip -j``, ``sysctl -a``, ``nft -j``, ``iptables-save``, ``conntrack -L``, ``uname``.

:func:`read` turns the folder's files into records; :func:`load` assembles them into a
:class:`~deadhop.model.netns.NetNamespace`. A missing file makes its facts unknown. Readers are total: what cannot be
read is a :class:`~deadhop.model.record.Problem` with its place, and the rest is read all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from deadhop.evidence.namespace import iproute2, nft, text
from deadhop.model.netns import NetNamespace, assemble
from deadhop.model.record import Problem, Record

Reader = Callable[[bytes, str], Iterator[Record]]

#: How each file of a namespace's folder is read. Order matters where two files tell of the same object.
READERS: dict[str, Reader] = {
    "uname.txt": text.uname,
    "ip-addr.json": iproute2.addresses,
    "ip-link.json": iproute2.links,
    "ip-route.json": iproute2.routes,
    "ip-route6.json": iproute2.routes6,
    "ip-rule.json": iproute2.rules4,
    "ip-rule6.json": iproute2.rules6,
    "ip-neigh.json": iproute2.neighbours,
    "ip-nexthop.json": iproute2.nexthops,
    "sysctl.txt": text.sysctls,
    "nft.json": nft.ruleset,
    "iptables-save.txt": text.iptables_save,
    "ip6tables-save.txt": text.ip6tables_save,
    "iptables-legacy-save.txt": text.iptables_legacy_save,
    "ip6tables-legacy-save.txt": text.ip6tables_legacy_save,
    "conntrack.txt": text.conntrack,
}


def read(files: Mapping[str, bytes], folder: str = "") -> Iterator[Record]:
    """The records of a namespace's folder. ``files`` maps base names to contents; ``folder`` goes before the names
    in sources. Files that no reader knows are passed over: the caller reports them."""
    for name, reader in READERS.items():
        if name in files:
            if name == "ip-route.json" and "ip-route6.json" in files:
                yield from iproute2.routes4_only(files[name], folder + name)
            else:
                yield from reader(files[name], folder + name)


def load(
    files: Mapping[str, bytes], name: str = "", folder: str = ""
) -> tuple[NetNamespace, tuple[Problem, ...]]:
    """The namespace that a folder describes, and what could not be read of it."""
    records = list(read(files, folder))
    problems = tuple(record for record in records if isinstance(record, Problem))
    return assemble(records, name), problems
