"""What the kernel's sets hold of what was learned, and the changes that bring them to what the core says.

The core (``fqdn/``) decides which addresses carry which selector's label. Here each address is mapped to the sets
of the policies with those selectors. An element's timeout is a lease: the expiry of its lookup plus one run of the
DNS GC and some slack. The agent removes what the GC drops; the lease ends what no agent is left to remove.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Literal, NamedTuple

from deadhop.agent.elements import Command, Elements
from deadhop.agent.ruleset import Layout, LearnedSet
from deadhop.fqdn.gc import DNS_GC_INTERVAL
from deadhop.fqdn.identity import NameManager

SLACK = 120.0
RENEW_BEFORE = 60.0
"""Seconds of a lease that may be missing before it is renewed: well within the slack, for a lease that a name asked
for all the time would otherwise be renewed all the time."""
CERTAIN = 20.0
"""Seconds of a lease with which the element is surely still there."""


class _Renewal(NamedTuple):
    """A lease that ends at ``ends`` in the kernel and is to end at ``deadline``."""

    ends: float
    deadline: float


class LearnedSets:
    """The elements that the kernel was told of. Set names end in ``_4`` and ``_6``."""

    def __init__(
        self, names: NameManager, foreign: Iterable[str], gc_interval: float = DNS_GC_INTERVAL
    ) -> None:
        self._names = names
        self._lease = gc_interval + SLACK
        self._foreign = frozenset(foreign)
        self._sets: tuple[tuple[LearnedSet, ...], ...] | None = None
        self._sets_of_label: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, dict[str, float]] = {}
        self._ips_of: dict[str, set[str]] = {}
        self._adding: dict[tuple[str, str], float] = {}
        self._renewing: dict[tuple[str, str], _Renewal] = {}
        self._flying: dict[tuple[str, str], int] = {}
        self._batch = 0
        self._replacing = 0

    @property
    def batch(self) -> int:
        """The number of the last transaction."""
        return self._batch

    @property
    def elements(self) -> int:
        return sum(map(len, self._held.values()))

    def holds(self, name: str, ip: str) -> bool:
        """Whether an address is in a learned set."""
        return ip in self._held.get(name + ("_6" if ":" in ip else "_4"), ())

    def arrange(self, plan: Layout, foreign: Iterable[str], now: float) -> dict[str, dict[str, float]]:
        """Take another layout; returns every element it should hold with the seconds left.

        Until :meth:`applied` is told of :attr:`batch`, every answer waits for the table that has them.
        """
        self._batch += 1
        self._replacing = self._batch
        self._adding.clear()
        self._renewing.clear()
        self._flying.clear()
        foreign = frozenset(foreign)
        if plan.sets != self._sets or foreign != self._foreign:
            self._sets, self._foreign = plan.sets, foreign
            self._fill()
        return {
            place: {ip: deadline - now for ip, deadline in ips.items()} for place, ips in self._held.items()
        }

    def forget(self) -> None:
        """What the sets should hold is to be worked out anew by the next :meth:`arrange`."""
        self._sets = None

    def _fill(self) -> None:
        """Work out what every set should hold from what names have taught."""
        by_label: dict[str, list[str]] = {}
        for group in self._sets or ():
            for learned in group:
                for label in learned.labels:
                    by_label.setdefault(label, []).append(learned.name)
        self._sets_of_label = {label: tuple(names) for label, names in by_label.items()}
        self._held = {}
        self._ips_of = {}
        for ip, by_name in self._names.labelled().items():
            for name in by_name:
                self._ips_of.setdefault(name, set()).add(ip)
            for place, deadline in self._wanted(ip).items():
                self._held.setdefault(place, {})[ip] = deadline

    def _wanted(self, ip: str, only: str = "") -> dict[str, float]:
        """The sets that an address belongs to and when its lease ends there, by all its names or ``only`` one."""
        found: dict[str, float] = {}
        if ip in self._foreign:  # a pod's or a node's address keeps its own identity, whatever its names
            return found
        suffix = "_6" if ":" in ip else "_4"
        forward = self._names.cache.forward
        labelled = self._names.labels_by_name(ip)
        for name in (only,) if only else labelled:
            entry = forward.get(name, {}).get(ip)
            if entry is None:
                continue
            deadline = entry.expiration_time + self._lease
            for label in labelled.get(name, ()):
                for place in self._sets_of_label.get(label, ()):
                    key = place + suffix
                    if found.get(key, 0.0) < deadline:
                        found[key] = deadline
        return found

    def learned(self, name: str, ips: Iterable[str]) -> bool:
        """A response taught these pairs. True where the kernel does not have all of it yet: the next transaction
        must be in force before the answer leaves."""
        new = False
        known: set[str] | None = None
        for ip in ips:
            wanted = self._wanted(ip, name)  # what its other names give it was said when they were learned
            if not wanted:
                continue
            if known is None:
                known = self._ips_of.setdefault(name, set())
            known.add(ip)
            for place, deadline in wanted.items():
                held = self._held.setdefault(place, {}).get(ip)
                if held is None:
                    self._held[place][ip] = deadline
                    self._adding[place, ip] = deadline
                    new = True
                    continue
                known_there = (place, ip) not in self._adding and (place, ip) not in self._flying
                new = new or not known_there or self._replacing > 0
                if held + RENEW_BEFORE < deadline:
                    self._renew(place, ip, held, deadline)
        return new

    def _renew(self, place: str, ip: str, ends: float, deadline: float) -> None:
        self._held[place][ip] = deadline
        waiting = self._renewing.get((place, ip))
        self._renewing[place, ip] = _Renewal(waiting.ends if waiting else ends, deadline)

    def additions(self, now: float) -> tuple[Elements, int]:
        """The transaction for addresses that are new, and its number for :meth:`applied`."""
        self._batch += 1
        change = _commands("add", self._adding, now)
        self._flying.update(dict.fromkeys(self._adding, self._batch))
        self._adding.clear()
        return change, self._batch

    def applied(self, batch: int) -> None:
        """The transactions up to ``batch`` are in force."""
        if batch >= self._replacing:
            self._replacing = 0
        if self._flying:
            self._flying = {key: number for key, number in self._flying.items() if number > batch}

    @property
    def renewing(self) -> int:
        """How many leases are to be renewed."""
        return len(self._renewing)

    def renewals(self, now: float, most: int) -> Elements:
        """The transaction that renews up to ``most`` leases, the oldest first.

        Adding again refreshes a timeout on recent kernels only (6.1 does not), so an element is deleted and added
        in one transaction; where it may have run out it is added first, so that there is something to delete.
        """
        chosen = dict(islice(self._renewing.items(), most))
        if not chosen:
            return ()
        for key in chosen:
            del self._renewing[key]
        doubtful = {key: renewal.deadline for key, renewal in chosen.items() if renewal.ends < now + CERTAIN}
        fresh = {key: renewal.deadline for key, renewal in chosen.items()}
        return (
            _commands("add", doubtful, now) + _commands("delete", fresh, now) + _commands("add", fresh, now)
        )

    def cleaned(self, names: Iterable[str], now: float) -> Elements:
        """The transaction after a GC that touched ``names``: what left the core's cache leaves the kernel."""
        forward = self._names.cache.forward
        touched: set[str] = set()
        for name in names:
            touched |= self._ips_of.get(name, set())
            left = set(forward.get(name, ()))
            touched |= left
            if name in self._ips_of and not left:
                del self._ips_of[name]
            elif name in self._ips_of:
                self._ips_of[name] = left
        gone: dict[tuple[str, str], float] = {}
        for ip in touched:
            wanted = self._wanted(ip)
            for place, held in self._held.items():
                if ip in held and place not in wanted:
                    del held[ip]
                    gone[place, ip] = 0.0
                    self._adding.pop((place, ip), None)
                    self._renewing.pop((place, ip), None)
            for place, deadline in wanted.items():
                current = self._held.setdefault(place, {})
                if ip not in current:
                    self._adding[place, ip] = deadline
                    current[ip] = deadline
                elif current[ip] + RENEW_BEFORE < deadline:
                    self._renew(place, ip, current[ip], deadline)
        if not gone:
            return ()
        # An element whose lease has run out is not there any more and cannot be deleted: it is added first.
        return _commands("add", dict.fromkeys(gone, now + 5), now) + _commands("delete", gone, now)


def _commands(
    verb: Literal["add", "delete"], elements: Mapping[tuple[str, str], float], now: float
) -> Elements:
    by_set: dict[str, list[tuple[str, float]]] = {}
    for (place, ip), deadline in elements.items():
        by_set.setdefault(place, []).append((ip, deadline - now))
    return tuple(Command(verb, place, tuple(items)) for place, items in by_set.items())
