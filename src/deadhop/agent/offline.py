"""An agent's state read without the agent: for a post-mortem, or from a node's copied folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deadhop.agent.journal import Line, read
from deadhop.fqdn.cache import Entry
from deadhop.fqdn.clock import ZERO
from deadhop.fqdn.formats import CacheRow, Label, SelectorRow, lookup_row
from deadhop.fqdn.options import LATEST, Version
from deadhop.model.observed.kube import listing, mapping


def _lines(path: Path) -> list[Line]:
    return read(path if path.is_dir() else path.parent)[0]


def cache_rows(path: Path, *, every_node: bool = False) -> list[CacheRow]:
    """The rows of ``fqdn cache list`` from a state folder (or a file in it). Raises ``StateError``."""
    lookups: dict[tuple[int, str, str], Entry] = {}
    zombies: dict[tuple[int, str], tuple[str, ...]] = {}
    for line in _lines(path):
        try:
            if line[0] == "lookup":
                _, id, name, time, ttl, ips = line
                entry = Entry(str(name), float(time), float(time) + int(ttl), int(ttl), tuple(map(str, ips)))
                for ip in entry.ips:
                    key = (int(id), entry.name, ip)
                    old = lookups.get(key)
                    if old is None or old.expiration_time < entry.expiration_time:
                        lookups[key] = entry
                    zombies.pop((int(id), ip), None)
            elif line[0] == "forgotten":
                gone = set(map(str, line[1]))
                lookups = {key: entry for key, entry in lookups.items() if key[1] not in gone}
            elif line[0] == "zombie":
                zombies[int(line[1]), str(line[2])] = tuple(map(str, line[3]))
            elif line[0] == "gone":
                zombies.pop((int(line[1]), str(line[2])), None)
                for name in line[3]:
                    lookups.pop((int(line[1]), str(name), str(line[2])), None)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    entries = {(id, entry.name, entry.lookup_time): (id, entry) for (id, _, _), entry in lookups.items()}
    if every_node:
        return [lookup_row(0, entry, "global") for _, entry in entries.values()]
    rows = [lookup_row(id, entry) for id, entry in entries.values()]
    for (id, ip), names in zombies.items():
        rows += [
            CacheRow(endpoint=id, source="connection", fqdn=name, ttl=0, expiration=ZERO, ips=(ip,))
            for name in names
        ]
    return rows


def selectors(path: Path) -> tuple[list[SelectorRow], Version]:
    """The selectors at the time of the last snapshot, and the Cilium version that was followed."""
    rows: list[SelectorRow] = []
    version = LATEST
    for line in _lines(path):
        if line[0] == "selector" and len(line) == 2 and isinstance(line[1], dict):
            rows.append(_row(line[1]))
        elif line[0] == "proxy" and len(line) == 2:
            try:
                version = Version.parse(str(mapping(line[1]).get("version")))
            except ValueError:
                continue
    return rows, version


def _row(item: dict[str, Any]) -> SelectorRow:
    users = item.get("users")
    return SelectorRow(
        selector=str(item.get("selector")),
        users=users if isinstance(users, int) else 0,
        identities=tuple(i for i in listing(item, "identities") if isinstance(i, int)),
        labels=tuple(
            Label(*map(str, part))
            for part in listing(item, "labels")
            if isinstance(part, list) and len(part) == 3
        ),
    )
