"""The queries that wait for an answer on one socket towards a server, oldest first, by the id they were sent under."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

from deadhop.agent.proxy import Allowed, Proxy
from deadhop.agent.sockets import Address
from deadhop.fqdn.admission import UPSTREAM_TIMEOUT, Failure

_IDENT = struct.Struct("2s")
_STOCK = 256

Asked = tuple[Allowed, Address, bytes, float]
"""A query under way: what was allowed, the client, its own id, and since when (monotonic)."""


class Pending(dict[bytes, Asked]):
    """Whatever leaves it gives its place among the outstanding queries back."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._idents: Iterator[tuple[bytes]] = iter(())

    def fresh(self) -> bytes:
        """An id that is not in use. A forger has to guess it: it is the kernel's random number, drawn in stock."""
        while True:
            for (ident,) in self._idents:
                if ident not in self:
                    return ident
            self._idents = _IDENT.iter_unpack(os.urandom(_STOCK * _IDENT.size))

    def answered(self, data: bytes) -> Asked | None:
        """Takes out the query that ``data`` answers; None, and counted, where it answers none of these."""
        proxy = self._proxy
        ident = data[:2]
        asked = self.get(ident)
        if asked is None or not (
            (data.startswith(asked[0].question, 12) and data[2] & 0x80) or repeats(data, asked[0].question)
        ):
            proxy.stats.count["mismatched"] += 1
            return None
        del self[ident]
        proxy.ended(asked[0].endpoint.id)
        proxy.stats.upstream.add(time.monotonic() - asked[3])
        return asked

    def lost(self) -> Iterator[tuple[Asked, bytes]]:
        """Takes out everything: the server cannot be reached. Each with the reply to its client."""
        for asked in self._emptied():
            query = asked[2] + b"\1\0\0\1\0\0\0\0\0\0" + asked[0].question
            yield asked, self._proxy.failed(query, Failure.UPSTREAM_ERROR, "upstream_errors")

    def overdue(self, now: float) -> None:
        """Takes out what no server answered in time. The client is not told, as in Cilium."""
        for ident, asked in list(self.items()):
            if now - asked[3] < UPSTREAM_TIMEOUT:
                break
            if self.pop(ident, None) is None:
                continue  # whoever took the place that became free found the server gone
            self._proxy.ended(asked[0].endpoint.id)
            self._proxy.stats.count["timeouts"] += 1

    def abandon(self) -> None:
        """Takes out everything: the client is gone."""
        for _ in self._emptied():
            pass

    def _emptied(self) -> Iterator[Asked]:
        everything = list(self.values())
        self.clear()
        for asked in everything:
            self._proxy.ended(asked[0].endpoint.id)
            yield asked


def repeats(data: bytes, question: bytes) -> bool:
    """Whether an answer repeats the question that was asked. Letter case may differ, as Cilium lets it."""
    end = 12 + len(question)
    if len(data) < end or not data[2] & 0x80:
        return False
    given = data[12:end]
    return given.lower() == question.lower() and given[-4:] == question[-4:] and data[4:6] == b"\0\1"
