"""The queries that wait for an answer on one socket towards a server, oldest first, by the id they were sent under."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from deadhop.agent.proxy import Allowed, Proxy
from deadhop.agent.sockets import Address
from deadhop.fqdn.admission import UPSTREAM_TIMEOUT, Failure


class Asked(NamedTuple):
    """A query under way. ``ident`` is the client's own id, ``began`` is monotonic."""

    allowed: Allowed
    client: Address
    ident: bytes
    began: float


class Pending(dict[bytes, Asked]):
    """Whatever leaves it gives its place among the outstanding queries back."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def fresh(self) -> bytes:
        """An id that is not in use. A forger has to guess it."""
        ident = os.urandom(2)
        while ident in self:
            ident = os.urandom(2)
        return ident

    def answered(self, data: bytes) -> Asked | None:
        """Takes out the query that ``data`` answers; None, and counted, where it answers none of these."""
        proxy = self._proxy
        asked = self.get(data[:2])
        if asked is None or not proxy.matches(data, asked.allowed.question):
            proxy.stats.count["mismatched"] += 1
            return None
        del self[data[:2]]
        proxy.ended(asked.allowed.endpoint.id)
        proxy.stats.upstream.add(time.monotonic() - asked.began)
        return asked

    def lost(self) -> Iterator[tuple[Asked, bytes]]:
        """Takes out everything: the server cannot be reached. Each with the reply to its client."""
        for asked in self._emptied():
            query = asked.ident + b"\1\0\0\1\0\0\0\0\0\0" + asked.allowed.question
            yield asked, self._proxy.failed(query, Failure.UPSTREAM_ERROR, "upstream_errors")

    def overdue(self, now: float) -> None:
        """Takes out what no server answered in time. The client is not told, as in Cilium."""
        for ident, asked in list(self.items()):
            if now - asked.began < UPSTREAM_TIMEOUT:
                break
            if self.pop(ident, None) is None:
                continue  # whoever took the place that became free found the server gone
            self._proxy.ended(asked.allowed.endpoint.id)
            self._proxy.stats.count["timeouts"] += 1

    def abandon(self) -> None:
        """Takes out everything: the client is gone."""
        for _ in self._emptied():
            pass

    def _emptied(self) -> Iterator[Asked]:
        everything = list(self.values())
        self.clear()
        for asked in everything:
            self._proxy.ended(asked.allowed.endpoint.id)
            yield asked
