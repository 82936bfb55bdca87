"""What the drop watch and the function trace share: descriptors that close together, events read from one ring."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

from deadhop.kernel import syscalls
from deadhop.kernel.btf import Btf, BtfError, running
from deadhop.kernel.capture import COUNTERS
from deadhop.kernel.event import Event
from deadhop.kernel.ring import Ring
from deadhop.kernel.syscalls import NoProbe, Refused, explained


def types() -> Btf:
    """The running kernel's types. Raises :class:`NoProbe`."""
    try:
        return running()
    except BtfError as error:
        raise NoProbe(str(error)) from None


class Probe:
    """A ring of ``size`` bytes and what fills it; attached while it lives.

    A subclass loads its programs within :meth:`_loading` and keeps their descriptors in ``_open``.
    """

    def __init__(self, size: int = 1 << 24) -> None:
        self.ring = Ring(size)
        self._open: list[int] = []
        self._closed = False

    @contextlib.contextmanager
    def _loading(self, what: str) -> Iterator[None]:
        """Makes the map of counters first. What fails closes the probe and is told as :class:`NoProbe`."""
        try:
            self._counters = syscalls.create_map(syscalls.MAP_ARRAY, 4, COUNTERS, 1)
            self._open.append(self._counters)
            yield
        except BtfError as error:
            self.close()
            raise NoProbe(f"this kernel's types differ: {error}") from None
        except Refused as error:
            self.close()
            raise explained(error, what) from None
        except BaseException:
            self.close()
            raise

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for an event; False where none came in time."""
        return self.ring.wait(seconds)

    def drain(self) -> Iterator[Event]:
        """The events since the last call, in order."""
        for record in self.ring.drain():
            yield Event(record)

    def counters(self) -> tuple[int, int]:
        """(events that passed the filter, those of them lost because the ring was full)."""
        found = syscalls.lookup(self._counters, struct.pack("<I", 0), COUNTERS) or bytes(COUNTERS)
        passed, lost = struct.unpack("<QQ", found)
        return passed, lost

    def close(self) -> None:
        """Detaches. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for descriptor in reversed(self._open):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._open.clear()
        self.ring.close()
