"""The ring buffer between a program in the kernel and this process (BPF_MAP_TYPE_RINGBUF, since Linux 5.8).

Layout: kernel/bpf/ringbuf.c. The first page holds the reader's position, the second the writer's, then the data,
mapped twice so that no record wraps. A record is a 4-byte length whose top bits say busy and discarded, 4 bytes of
the kernel's own, and the data.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import struct
from collections.abc import Iterator

from deadhop.kernel.syscalls import MAP_RINGBUF, Refused, create_map, explained

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1


class Ring:
    """``size`` bytes, a power of two and a multiple of the page size. Raises
    :class:`~deadhop.kernel.syscalls.NoProbe`."""

    def __init__(self, size: int) -> None:
        self.size = size
        try:
            self.fd = create_map(MAP_RINGBUF, 0, 0, size)
        except Refused as error:
            if error.number == 22:
                raise explained(error, "the ring buffer needs Linux 5.8") from None
            raise explained(error, "creating a BPF ring buffer") from None
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(self.fd, page)
        self._producer = mmap.mmap(self.fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._position = 0
        self._poll = select.epoll()
        self._poll.register(self.fd, select.EPOLLIN)

    def wait(self, seconds: float | None) -> bool:
        """Waits for a record; False where none came in time. None waits for ever."""
        return bool(self._poll.poll(-1 if seconds is None else seconds))

    def drain(self) -> Iterator[bytes]:
        """The records since the last call, each a copy. What the caller does not take stays."""
        producer, mask, page = self._producer, self.size - 1, mmap.PAGESIZE
        end = struct.unpack_from("<Q", producer, 0)[0]
        while self._position < end:
            place = page + (self._position & mask)
            header = struct.unpack_from("<I", producer, place)[0]
            if header & _BUSY:
                return  # still being written
            length = header & _LENGTH
            record = producer[place + 8 : place + 8 + length]
            self._position += (length + 8 + 7) & ~7
            struct.pack_into("<Q", self._consumer, 0, self._position)
            if not header & _DISCARDED:
                yield record

    def close(self) -> None:
        self._poll.close()
        self._consumer.close()
        self._producer.close()
        with contextlib.suppress(OSError):
            os.close(self.fd)
