"""Run inside a private network and mount namespace: a C library's getaddrinfo asks our servers; questions and outcome are
printed.

Arguments: the helper program, a directory, a JSON file of cases. Each case has ``resolv`` (text), ``name`` and ``words``, what
each server address does: an rcode, NODATA, TIMEOUT, OK, TC, or TC-A for one type only. The name ``api.example.com.`` exists unless the word is
REFUSED, SERVFAIL, NOTIMP, FORMERR or TIMEOUT.
"""

from __future__ import annotations

import json
import pathlib
import select
import socket
import subprocess
import sys
import threading

from deadhop.model.dns import RR, Message, Question, Rcode, type_name
from deadhop.wire.build import write_message
from deadhop.wire.dns import read_question
from deadhop.wire.framing import Framer, frame
from deadhop.wire.names import WireError

MARK = b"mark"
KNOWN = "api.example.com."
SERVERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
Seen = list[tuple[str, str, str, str]]


class Servers:
    """All three, UDP and TCP, in one thread: questions are noted in the order in which they are read."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.seen: Seen = []
        self.marks = threading.Semaphore(0)
        self.udp = {self._bound(socket.SOCK_DGRAM, ip): ip for ip in SERVERS}
        self.listening = {self._bound(socket.SOCK_STREAM, ip): ip for ip in SERVERS}
        self.streams: dict[socket.socket, tuple[str, Framer]] = {}

    @staticmethod
    def _bound(kind: socket.SocketKind, ip: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ip, 53))
        if kind == socket.SOCK_STREAM:
            made.listen(16)
        return made

    def answer(self, data: bytes, ip: str, transport: str) -> bytes | None:
        if data == MARK:
            self.marks.release()
            return None
        try:
            asked = read_question(data)
        except WireError:  # musl under a search entry `.`
            return None
        kind = type_name(asked.type)
        self.seen.append((asked.name, kind, transport, ip))
        word = self.words.get(ip, "NXDOMAIN")
        if word == "TIMEOUT":
            return None
        code = Rcode.NOERROR if word in ("NODATA", "OK") or word.startswith("TC") else Rcode[word]
        answers: tuple[RR, ...] = ()
        truncated = transport == "udp" and (word == "TC" or word == f"TC-{kind}")
        if asked.name == KNOWN and (word in ("NXDOMAIN", "NODATA", "OK") or word.startswith("TC")):
            code = Rcode.NOERROR
            answers = (
                () if truncated else (RR(KNOWN, 30, kind, "192.0.2.7" if kind == "A" else "2001:db8::7"),)
            )
        elif word == "OK" or word.startswith("TC"):
            code = Rcode.NXDOMAIN
        return write_message(
            Message(
                id=asked.id,
                response=True,
                recursion_available=True,
                truncated=truncated,
                rcode=code,
                questions=(Question(asked.name, kind),),
                answers=answers,
            )
        )

    def run(self) -> None:
        while True:
            ready = select.select([*self.udp, *self.listening, *self.streams], [], [])[0]
            for sock in ready:
                if sock in self.udp:
                    data, peer = sock.recvfrom(4096)
                    if (out := self.answer(data, self.udp[sock], "udp")) is not None:
                        sock.sendto(out, peer)
                elif sock in self.listening:
                    self.streams[sock.accept()[0]] = (self.listening[sock], Framer())
                else:
                    self._stream(sock)

    def settled(self) -> Seen:
        """What has been asked so far: a mark behind it in each queue has been read."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for ip in SERVERS:
                sock.sendto(MARK, (ip, 53))
        for _ in SERVERS:
            self.marks.acquire()
        return list(self.seen)

    def _stream(self, sock: socket.socket) -> None:
        ip, framer = self.streams[sock]
        try:
            piece = sock.recv(4096)
            for data in framer.feed(piece):
                if (out := self.answer(data, ip, "tcp")) is not None:
                    sock.sendall(frame(out))
        except OSError:
            piece = b""
        if not piece:
            del self.streams[sock]
            sock.close()


def main() -> None:
    program, place, cases = (
        sys.argv[1],
        pathlib.Path(sys.argv[2]),
        json.loads(pathlib.Path(sys.argv[3]).read_text()),
    )
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolv = place / "resolv.conf"
    resolv.write_text("")
    switch = place / "nsswitch.conf"
    switch.write_text("hosts: dns\n")
    hosts = place / "hosts"
    hosts.write_text("")
    for path in (resolv, switch, hosts):
        if pathlib.Path("/etc", path.name).exists():
            subprocess.run(["mount", "--bind", str(path), f"/etc/{path.name}"], check=True)
    servers = Servers()
    threading.Thread(target=servers.run, daemon=True).start()
    found = []
    for case in cases:
        resolv.write_text(case["resolv"])
        servers.words = case["words"]
        servers.seen.clear()
        done = subprocess.run([program, case["name"]], capture_output=True, text=True, check=True)
        found.append({"sent": servers.settled(), "told": sorted(set(done.stdout.split()))})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
