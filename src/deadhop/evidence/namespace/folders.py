"""Finds the folders of namespaces below the paths given: ``EVIDENCE/NAME/ip-addr.json`` and the files beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from deadhop.evidence import limits
from deadhop.evidence.documents import documents
from deadhop.evidence.namespace import READERS, load
from deadhop.model.netns import NetNamespace
from deadhop.model.record import Problem


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
    for document in documents(list(paths)):
        if isinstance(document, Problem):
            problems.append(document)
            continue
        folder, _, base = document.name.replace("!", "/").rpartition("/")
        if base in READERS:
            files[folder][base] = document.stream.read(limits.WHOLE)
    found = []
    for path, content in sorted(files.items()):
        name = path.rpartition("/")[2]
        namespace, trouble = load(content, name, path + "/")
        found.append(Folder(name, path, namespace))
        problems += trouble
    return found, problems
