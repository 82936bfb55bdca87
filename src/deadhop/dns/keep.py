"""The warmer at work: a thread for each name and server, asking when ``warm`` says so."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from deadhop.dns.probe import Ask, Way, probe
from deadhop.dns.warm import Entry, Told

TIMEOUT = 2.0
Say = Callable[[Ask, Entry, Told], None]


class Keeper:
    """Keeps every question warm in every server from ``start`` until ``stop``. ``say`` hears what each answer taught."""

    def __init__(
        self, questions: Sequence[tuple[str, str]], servers: Sequence[str], way: Way, say: Say
    ) -> None:
        self.say = say
        self.ended = threading.Event()
        self.entries = {
            Ask(name, kind, server, way): Entry(random.Random())
            for name, kind in questions
            for server in servers
        }
        self.threads = [
            threading.Thread(target=self._keep, args=pair, daemon=True) for pair in self.entries.items()
        ]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def _keep(self, ask: Ask, entry: Entry) -> None:
        while not self.ended.wait(max(0.0, entry.next_at(time.monotonic()) - time.monotonic())):
            sent = time.monotonic()
            got = probe(ask, TIMEOUT)
            now = time.monotonic()
            if got.error or got.rcode not in ("NOERROR", "NXDOMAIN") or got.ttl is None:
                told = entry.failed(now)
            else:
                told = entry.answered(sent if got.tries < 2 else now - got.seconds, now, got.ttl)
            self.say(ask, entry, told)
