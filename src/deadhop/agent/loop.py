"""A small epoll loop: one callback for each file descriptor, timers, and a hook at the end of each round.

A round is everything that was ready at once. What must happen before answers leave (writing the journal) and what
pays to do in bulk (changes to kernel sets) runs once at the end of a round. asyncio's loop does the same through a
handle and a scheduled call for each event and is as fast where readers take datagrams in batches (docs/agent.md); it
has no end of a round.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from types import FrameType

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

Callback = Callable[[int], None]
"""Called with the events that are ready."""


class Loop:
    """Runs callbacks until :meth:`stop`. ``failed`` is told of exceptions in callbacks; they end nothing."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._poll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._failed = failed
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._running = False
        self.end_of_round: list[Callable[[], None]] = []
        self.add(self._wake, self._woken)

    def add(self, fd: int, callback: Callback, events: int = READ) -> None:
        self._callbacks[fd] = callback
        self._poll.register(fd, events)

    def events(self, fd: int, events: int) -> None:
        """Wait for other events on a descriptor."""
        self._poll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor; an unknown one is passed over."""
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action once, at the first round that begins after ``seconds``."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def every(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action every ``seconds``, first after that time."""

        def again() -> None:
            self.after(seconds, again)
            action()

        self.after(seconds, again)

    def post(self, action: Callable[[], None]) -> None:
        """Run an action in the loop, from any thread."""
        self._posted.append(action)
        os.eventfd_write(self._wake, 1)

    def on_signal(self, number: int, action: Callable[[], None]) -> None:
        """Run an action in the loop when a signal arrives. For the main thread."""

        def arrived(_number: int, _frame: FrameType | None) -> None:
            self.post(action)

        signal.signal(number, arrived)

    def _woken(self, _events: int) -> None:
        os.eventfd_read(self._wake)
        while self._posted:
            self._guard(self._posted.popleft())

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._failed(error)

    def stop(self) -> None:
        """End :meth:`run` after this round."""
        self._running = False

    def run(self) -> None:
        self._running = True
        poll, callbacks, timers = self._poll.poll, self._callbacks, self._timers
        while self._running:
            wait = max(0.0, timers[0][0] - time.monotonic()) if timers else -1
            for fd, events in poll(wait):
                callback = callbacks.get(fd)
                if callback is None:
                    continue
                try:
                    callback(events)
                except Exception as error:
                    self._failed(error)
            if timers and timers[0][0] <= time.monotonic():
                now = time.monotonic()
                while timers and timers[0][0] <= now:
                    self._guard(heapq.heappop(timers)[2])
            for hook in self.end_of_round:
                self._guard(hook)

    def close(self) -> None:
        self._poll.close()
        os.close(self._wake)
