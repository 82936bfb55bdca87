"""Finds the namespaces below the paths given: folders (``EVIDENCE/NAME/ip-addr.json`` and the files beside it), and the
topology files of the lab."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from deadhop.evidence import limits
from deadhop.evidence.documents import documents
from deadhop.evidence.namespace import READERS, load
from deadhop.model.net import Listing
from deadhop.model.netfilter import IptablesTable
from deadhop.model.netns import NetNamespace, assemble
from deadhop.model.record import Problem, Record, Source
from deadhop.model.topology import MARK


@dataclass(frozen=True)
class Folder:
    """One namespace: ``name`` is its folder's, ``path`` the folder as given (archive members behind ``!``)."""

    name: str
    path: str
    namespace: NetNamespace


def folders(paths: Iterable[str]) -> tuple[list[Folder], list[Problem]]:
    """Every namespace below ``paths`` (folders and archives), and what could not be read.

    Raises :class:`~deadhop.evidence.documents.NoEvidence` where a path does not exist.
    """
    files: dict[str, dict[str, bytes]] = defaultdict(dict)
    problems: list[Problem] = []
    found: list[Folder] = []
    for document in documents(list(paths)):
        if isinstance(document, Problem):
            problems.append(document)
            continue
        folder, _, base = document.name.replace("!", "/").rpartition("/")
        if base in READERS:
            files[folder][base] = document.stream.read(limits.WHOLE)
        elif base.endswith((".yaml", ".yml")):
            written, wrong = _topology(document.stream.read(limits.YAML), document.name)
            found += written
            problems += wrong
    for path, content in sorted(files.items()):
        name = path.rpartition("/")[2]
        namespace, trouble = load(content, name, path + "/")
        found.append(Folder(name, path, namespace))
        problems += trouble
    return found, problems


def _topology(data: bytes, file: str) -> tuple[list[Folder], list[Problem]]:
    """The namespaces that a topology file of the lab describes; none where the file is something else."""
    if MARK.encode() not in data:
        return [], []
    from deadhop.evidence.topology import TopologyError, loads
    from deadhop.evidence.topology_state import state

    try:
        topology = loads(data.decode("utf-8", "replace"), file)
    except TopologyError as error:
        return [], [Problem(source=Source(file), kind="damaged", text=str(error))]
    made = []
    for name in topology.namespaces:
        records = state(topology, name, file)
        if topology.namespaces[
            name
        ].nft:  # as text it cannot be walked, and half of netfilter decides nothing
            records = [r for r in records if not _of_iptables(r)]
        made.append(Folder(name, f"{file}/{name}", assemble(records, name)))
    return made, []


def _of_iptables(record: Record) -> bool:
    return isinstance(record, IptablesTable) or (
        isinstance(record, Listing) and record.what.startswith("iptables")
    )
