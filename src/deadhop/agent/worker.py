"""The thread that talks to nftables, so that a slow transaction holds back its own answers and nothing else.

A few elements are a system call of some microseconds, less than waking a thread: with ``at_once`` they are applied by the
caller while the thread has nothing to do. Where that took long once (another program holds the ruleset's lock) it is left to the
thread for a while.

Changes that wait while a transaction runs go into the next one together. Where a joint transaction is refused each
change is tried alone, so that one bad change does not take others with it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from deadhop.agent.elements import Command, Elements
from deadhop.agent.nft import Nft, NftError

Done = Callable[[str], None]
"""Called in the loop with the error, empty where the change was applied."""
Change = Elements | Callable[[Nft], str]
"""Elements that come and go, or what makes the text of a transaction when its turn comes; that is applied alone."""
_JOINED = 256
FEW, SLOW, ASIDE = 64, 0.005, 5.0
"""Elements that are applied at once; seconds that this may take; seconds for which it is not tried after it took longer."""


class _Job(NamedTuple):
    change: Change
    done: Done | None


class Worker:
    """``post`` runs a callback in the loop's thread, which is the one that calls :meth:`apply`."""

    def __init__(
        self, nft: Nft, post: Callable[[Callable[[], None]], None], *, at_once: bool = False
    ) -> None:
        self._at_once = at_once
        self._not_before = 0.0
        self._busy = False
        self._nft = nft
        self._post = post
        self._jobs: deque[_Job] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self.seconds = 0.0
        self.transactions = 0
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="nft", daemon=True)
        self._thread.start()

    def apply(self, change: Change, done: Done | None = None) -> None:
        """Apply a change after those before it. An empty one is done when they are."""
        with self._ready:
            if not self._quick(change):
                self._jobs.append(_Job(change, done))
                self._ready.notify()
                return
        began = time.monotonic()
        error = self._apply(change)
        ended = time.monotonic()
        if ended - began > SLOW:
            self._not_before = ended + ASIDE
        if done is not None:
            done(error)

    def _quick(self, change: Change) -> bool:
        """Whether a change may be applied by the caller: it is small, and nothing is before it."""
        if not self._at_once or self._busy or self._jobs or callable(change):
            return False
        return sum(len(c.items) for c in change) <= FEW and time.monotonic() >= self._not_before

    def _take(self) -> list[_Job]:
        with self._ready:
            self._busy = False
            while not self._jobs and not self._closing:
                self._ready.wait()
            self._busy = True
            taken: list[_Job] = []
            while self._jobs and len(taken) < _JOINED:
                if taken and callable(self._jobs[0].change):
                    break
                taken.append(self._jobs.popleft())
                if callable(taken[-1].change):
                    break
            return taken

    def _run(self) -> None:
        while jobs := self._take():
            self._together(jobs)

    def _together(self, jobs: list[_Job]) -> None:
        first = jobs[0].change
        error = self._apply(first if callable(first) else tuple(_commands(jobs)))
        if error and len(jobs) > 1:
            for job in jobs:
                self._finish([job], self._apply(job.change))
        else:
            self._finish(jobs, error)

    def _finish(self, jobs: list[_Job], error: str) -> None:
        told = [job.done for job in jobs if job.done is not None]

        def tell() -> None:
            for done in told:
                done(error)

        if told:
            self._post(tell)

    def _apply(self, change: Change) -> str:
        if not change:
            return ""
        began = time.perf_counter()
        try:
            if callable(change):
                self._nft.run(change(self._nft))
            else:
                self._nft.change(change)
        except NftError as error:
            self.failures += 1
            return str(error)
        except Exception as error:
            self.failures += 1
            return f"{type(error).__name__}: {error}"
        finally:
            self.transactions += 1
            self.seconds += time.perf_counter() - began
        return ""

    def close(self) -> None:
        """Finish what waits and end the thread."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()


def _commands(jobs: Iterable[_Job]) -> Iterator[Command]:
    for job in jobs:
        if not callable(job.change):
            yield from job.change
