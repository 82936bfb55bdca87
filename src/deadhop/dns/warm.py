"""When to ask a cache again so that an entry is never missing when a client asks. Pure: time is an argument.

An answer from a cache tells how long the entry has left, in whole seconds cut off: with TTL r it expires between r - 1 and r
seconds from now. Every further answer narrows that, and an answer that we caused ourselves gives it to the round
trip. Two questions decide what is left of a gap:

* Within the last tenth of its life caches that prefetch (CoreDNS ``cache`` with ``prefetch``, unbound's prefetch) ask
  upstream again when they are asked, and go on answering from the old entry: no gap. So three questions fall there.
* A cache that does not prefetch drops the entry at its end; the first question after that brings it back. So the
  questions stand close around the expected end, and the gap is a round trip to the upstream, not a period.

A fixed period has neither: after the entry's end it leaves up to a period without it.
"""

from __future__ import annotations

import random

import msgspec

AHEAD = (0.09, 0.05, 0.02)
"""Shares of the TTL left at which to ask: inside the last tenth (CoreDNS plugin/cache ``prefetch … 10%``, unbound)."""
STEP = 0.004
"""Seconds between questions around the end of an entry."""
MAX_WAIT = 30.0
"""Seconds without a question at most: a server that restarted has lost the entry."""
RETRY = (0.2, 0.5, 1.0, 2.0, 5.0)


class Told(msgspec.Struct, frozen=True):
    """What an answer taught: ``first``, ``held`` (the known entry), ``prefetched``, ``stale``, ``refreshed`` (it had ended; ``gap``
    is how long it may have been gone, in seconds), ``failed``."""

    word: str
    gap: float = 0.0


class Entry:
    """One name in one cache. ``ttl`` is its whole life as far as it has been seen, ``behaviour`` what the cache does at its end:
    ``prefetch``, ``stale`` or ``plain``, empty while not known."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.ttl = 0
        self.behaviour = ""
        self.earliest = self.latest = 0.0
        self.failures = 0
        self.asked = 0.0
        self.gaps = 0.0
        self.refreshed = 0

    def answered(self, sent: float, now: float, ttl: int) -> Told:
        """Takes an answer that was asked for at ``sent`` and came ``now`` with ``ttl`` seconds left."""
        first, before = not self.asked, self.latest
        self.asked, self.failures = now, 0
        if ttl == 0 and not first:
            # RFC 8767 section 4 answers stale data with a small TTL; CoreDNS gives 0 and refreshes meanwhile.
            self.behaviour = "stale"
            self.earliest = self.latest = now + STEP
            return Told("stale")
        self.ttl = max(self.ttl, ttl)
        low, high = sent + ttl - 1, now + ttl
        if first:
            self.earliest, self.latest = low, high
            return Told("first")
        if low <= before and high >= self.earliest:
            self.earliest, self.latest = max(low, self.earliest), min(high, before)
            return Told("held")
        if sent < self.earliest:
            # Another life began before the old one could have ended.
            self.behaviour = "prefetch"
            self.earliest, self.latest = low, high
            return Told("prefetched")
        gap = max(0.0, now - self.earliest)
        self.gaps += gap
        self.refreshed += 1
        self.behaviour = self.behaviour if self.behaviour == "stale" else "plain"
        # Ours was the question that brought it back, if it shows the whole life: then the end is known exactly.
        self.earliest, self.latest = (sent + ttl if ttl >= self.ttl else low), high
        return Told("refreshed", gap)

    def failed(self, now: float) -> Told:
        self.asked = now
        self.failures += 1
        return Told("failed")

    def next_at(self, now: float) -> float:
        """When to ask next, by the same clock as ``now``."""
        if self.failures:
            return now + RETRY[min(self.failures, len(RETRY)) - 1] * self.chance.uniform(0.8, 1.0)
        if not self.asked:
            return now
        for share in AHEAD:
            # Earlier by chance, never later: many warmers do not ask in step, and none is late.
            at = self.latest - self.ttl * share - self.chance.uniform(0, 0.005 * self.ttl)
            if at > now + STEP:
                return min(at, now + MAX_WAIT)
        return max(self.earliest - STEP, now + STEP)
