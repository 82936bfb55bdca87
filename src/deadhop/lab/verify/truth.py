"""What the kernel does with a topology's packets: sends them, and listens everywhere."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from typing import Any

import msgspec

from deadhop.lab.verify.drops import DropProbe
from deadhop.lab.verify.frames import NUMBERS, checksum, find_marker, marker, network, own_length, recognise
from deadhop.lab.verify.router import Router, mac_of
from deadhop.model.packet import PacketFlow
from deadhop.model.protocols import ICMP, ICMPV6, TCP, UDP

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_MARK = 36
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2
IPV6_TCLASS, IPV6_DONTFRAG = 67, 62
#: How long a packet may take to show, in seconds: a softirq's time, which ksoftirqd may delay on a busy machine.
SETTLE, PATIENT = 0.02, 0.4


class Truth(msgspec.Struct, kw_only=True):
    """The end of one packet: where it was seen, what the kernel said, what the sender was told."""

    sent: bool = True
    delivered: bool = False
    out: list[tuple[str, str]] = msgspec.field(default_factory=list)
    reasons: list[str] = msgspec.field(default_factory=list)
    icmp: tuple[int, int, int | None] | None = None
    reset: bool = False
    errno: str = ""

    @property
    def disposition(self) -> str:
        if self.errno:
            return "dropped"  # the sender knows by its errno
        if self.delivered:
            return "delivered"
        if self.out:
            return "forwarded"
        return "rejected" if self.icmp or self.reset else "dropped"


class Observer:
    """Sockets in both namespaces of a router. ``settle``: how long a packet may take to show, in seconds."""

    def __init__(self, router: Router, probe: DropProbe | None, settle: float = SETTLE) -> None:
        self.router = router
        self.probe = probe
        self.settle = settle
        self.mark = int.from_bytes(os.urandom(4))
        self.flows = router.topology.flows
        self.ports = {flow.sport: number for number, flow in enumerate(self.flows) if flow.sport}
        names = [port.name for port in router.topology.ports]
        with router.outside.inside():
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self.wire.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            self.peers = {f"p{i}": name for i, name in enumerate(names)}
        with router.router.inside():
            self.local = [socket.socket(socket.AF_INET, socket.SOCK_RAW, p) for p in (UDP, TCP, ICMP)]
            self.local6 = [socket.socket(socket.AF_INET6, socket.SOCK_RAW, p) for p in (UDP, TCP, ICMPV6)]
        for sock in (*self.local, *self.local6, self.wire):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)

    def close(self) -> None:
        for sock in (self.wire, *self.local, *self.local6):
            sock.close()

    def run(self, next_hops: dict[str, str]) -> list[Truth]:
        """Sends every flow's packet once and collects its end. ``next_hops`` names the address behind a MAC."""
        truths = [Truth() for _ in self.flows]
        self._discard()
        for number, flow in enumerate(self.flows):
            if flow.in_dev is None:
                truths[number].errno = self._send_local(number, flow)
            else:
                truths[number].sent = self._send_wire(number, flow)
            if number % 16 == 15:
                self._collect(truths, next_hops)
        deadline = time.monotonic() + self.settle
        while time.monotonic() < deadline:
            self._collect(truths, next_hops)
            time.sleep(0.002)
        return truths

    def _discard(self) -> None:
        for sock in (self.wire, *self.local, *self.local6):
            try:
                while True:
                    sock.recv(70000)
            except BlockingIOError:
                pass
        if self.probe:
            for _ in self.probe.drain():
                pass

    def _send_wire(self, number: int, flow: PacketFlow) -> bool:
        """Puts the frame on the wire; False where the router's device cannot take it (down, or too small for it)."""
        index = [port.name for port in self.router.topology.ports].index(str(flow.in_dev))
        kind = 0x86DD if ":" in flow.src else 0x0800
        mac = bytes.fromhex(mac_of(index).replace(":", ""))
        source = bytes.fromhex(f"02bb000000{index:02x}")
        frame = mac + source + struct.pack(">H", kind) + network(flow, self.mark, number)
        try:
            self.wire.sendto(frame, (f"p{index}", kind))
        except OSError as error:
            if error.errno not in (errno.ENETDOWN, errno.ENXIO, errno.ENOBUFS):
                raise
            return False
        return True

    def _send_local(self, number: int, flow: PacketFlow) -> str:
        six = ":" in flow.src
        proto = NUMBERS[str(flow.proto)]
        family = socket.AF_INET6 if six else socket.AF_INET
        with self.router.router.inside():
            if proto == UDP:
                sock = socket.socket(family, socket.SOCK_DGRAM)
                size = flow.length - (48 if six else 28)
                payload = (marker(self.mark, number) + bytes(max(size, 0)))[:size]
            else:
                sock = socket.socket(family, socket.SOCK_RAW, ICMPV6 if six else ICMP)
                size = flow.length - (40 if six else 20)
                kind = flow.icmp_type if flow.icmp_type is not None else 128 if six else 8
                payload = struct.pack(">BBHHH", kind, flow.icmp_code or 0, 0, number + 1, 1)
                payload += (marker(self.mark, number) + bytes(size))[: size - 8]
                if not six:
                    payload = payload[:2] + struct.pack(">H", checksum(payload)) + payload[4:]
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, flow.mark)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if six:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TCLASS, flow.tos)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, int(flow.df))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, flow.ttl)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, flow.tos)
                mode = IP_PMTUDISC_DO if flow.df else IP_PMTUDISC_DONT
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, mode)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, flow.ttl)
            sock.bind((flow.src, flow.sport if proto == UDP else 0))
            sock.sendto(payload, (flow.dst, flow.dport if proto == UDP else 0))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        finally:
            sock.close()
        return ""

    def _collect(self, truths: list[Truth], next_hops: dict[str, str]) -> None:
        for packet, address in self._received(self.wire):
            if address[1] not in (0x0800, 0x86DD):
                continue
            seen = recognise(packet[14:], self.mark, self.ports)
            if seen is None or seen.number >= len(truths):
                continue
            truth = truths[seen.number]
            if seen.kind == "packet":
                mac = ":".join(f"{byte:02x}" for byte in packet[:6])
                pair = (self.peers[address[0]], next_hops.get(mac, mac))
                if pair not in truth.out:
                    truth.out.append(pair)
            else:
                self._told(truth, seen)
        for sock in self.local:
            for packet, _ in self._received(sock):
                self._local(truths, packet)
        for sock, proto in zip(self.local6, (UDP, TCP, ICMPV6), strict=True):
            for packet, _ in self._received(sock):
                head = struct.pack(">IHBB", 6 << 28, len(packet), proto, 64) + bytes(32)
                self._local(truths, head + packet)
        if self.probe:
            for drop in self.probe.drain():
                if drop.netns not in (self.router.router.inode, 0):
                    continue
                self._dropped(truths, drop.reason, drop.packet)

    def _received(self, sock: socket.socket) -> list[tuple[bytes, Any]]:
        found = []
        try:
            while True:
                found.append(sock.recvfrom(70000))
        except BlockingIOError:
            return found

    def _local(self, truths: list[Truth], packet: bytes) -> None:
        seen = recognise(packet, self.mark, self.ports)
        if seen is None or seen.number >= len(truths):
            return
        if seen.kind == "packet":
            truths[seen.number].delivered = True
        elif not self.flows[seen.number].src.endswith(".255"):  # that would be a broadcast's loopback copy
            self._told(truths[seen.number], seen)

    def _told(self, truth: Truth, seen: Any) -> None:
        if seen.kind == "icmp":
            truth.icmp = (seen.type, seen.code, seen.mtu)
        else:
            truth.reset = True

    def _dropped(self, truths: list[Truth], reason: str, packet: bytes) -> None:
        # What lies behind a short packet in its buffer may be an older one's payload.
        packet = packet[: own_length(packet)]
        seen = recognise(packet, self.mark, self.ports)
        number = find_marker(packet, self.mark)
        if seen is None or seen.kind != "packet" or number is None or number >= len(truths):
            return
        if reason not in truths[number].reasons:
            truths[number].reasons.append(reason)
