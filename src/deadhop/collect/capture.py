"""A capture of every device of the namespace in which it is started, by one AF_PACKET socket, as pcapng.

Payload is cut off behind the transport header except for DNS and ICMP, so that no application's secret is captured.
What the socket lost is in the file.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time

from deadhop.model.dns import DNS_PORTS
from deadhop.wire import pcapng

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
#: ARPHRD_* (include/uapi/linux/if_arp.h) to the link type of a capture file.
_LINKS = {
    1: pcapng.ETHERNET,
    772: pcapng.ETHERNET,
    65534: pcapng.RAW,
    768: pcapng.RAW,
    769: pcapng.RAW,
    776: pcapng.RAW,
}
#: Bytes of capture that are kept; what comes later is counted as lost.
MOST = 64 << 20


class Capture:
    """Runs from its making to :meth:`finish`. Raises :class:`OSError` where the socket is refused (EPERM)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)
        self._out = bytearray(pcapng.section())
        self._devices: dict[tuple[str, int], int] = {}
        self._left_out = 0
        self.packets = 0
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._stop], [], [])
            self._drain()
            if self._stop in ready:
                return

    def _drain(self) -> None:
        while True:
            try:
                data, extra, _flags, address = self._socket.recvmsg(65536 + 64, 64)
            except (BlockingIOError, OSError):
                return
            name, _proto, _kind, hardware, _mac = address
            link = _LINKS.get(hardware)
            if link is None or len(self._out) > MOST:
                self._left_out += 1
                continue
            when = time.time_ns()
            for level, what, value in extra:
                if level == socket.SOL_SOCKET and what == _SO_TIMESTAMPNS and len(value) >= 16:
                    seconds, nanoseconds = struct.unpack_from("qq", value)
                    when = seconds * 1_000_000_000 + nanoseconds
            key = (name, link)
            if key not in self._devices:
                self._devices[key] = len(self._devices)
                self._out += pcapng.interface(name, link)
            kept = data[: keep(data, 14 if link == pcapng.ETHERNET else 0)]
            self._out += pcapng.packet(self._devices[key], when, kept, len(data))
            self.packets += 1

    def finish(self) -> bytes:
        """Ends the capture; the file's bytes."""
        self._halt()
        _seen, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        lost += self._left_out
        if lost and not self._devices:
            self._out += pcapng.interface("any", pcapng.ETHERNET)
        if lost:
            self._out += pcapng.statistics(0, time.time_ns(), lost)
        self.close()
        return bytes(self._out)

    def _halt(self) -> None:
        if self._stopper >= 0:
            os.write(self._stopper, b"x")
            self._thread.join()
            os.close(self._stopper)
            os.close(self._stop)
            self._stopper = -1

    def close(self) -> None:
        """Ends the capture without its file."""
        self._halt()
        self._socket.close()


def keep(frame: bytes, at: int) -> int:
    """How many bytes of a frame are kept: all of DNS, ICMP, ARP and fragments' beginnings, else up to the payload."""
    kind = frame[at - 2 : at] if at else (b"\x08\x00" if frame[:1] and frame[0] >> 4 == 4 else b"\x86\xdd")
    if kind == b"\x81\x00":
        kind, at = frame[at + 2 : at + 4], at + 4
    if kind == b"\x08\x00" and len(frame) >= at + 20:
        proto, start = frame[at + 9], at + (frame[at] & 15) * 4
        if int.from_bytes(frame[at + 6 : at + 8]) & 0x1FFF:
            return start
    elif kind == b"\x86\xdd" and len(frame) >= at + 40:
        proto, start = frame[at + 6], at + 40
    else:
        return min(len(frame), 128)
    if proto in (1, 58):
        return len(frame)
    if proto in (6, 17) and len(frame) >= start + 4:
        ports = struct.unpack_from(">HH", frame, start)
        if DNS_PORTS & set(ports):
            return len(frame)
        if proto == 17:
            # the inner headers of a tunnel (VXLAN 4789 and 8472, Geneve 6081) say as much as the outer ones
            return start + 8 + (120 if ports[1] in (4789, 8472, 6081) else 0)
        return start + (frame[start + 12] >> 4) * 4 if len(frame) > start + 12 else start + 20
    return start + 8
