"""A DNS server for a file of records, read again whenever it changes: where there is no CoreDNS.

Lines are ``NAME TTL TYPE DATA``. A CNAME is followed within the file, as a recursive server would.
``python -m deadhop.lab.services.zone ADDRESS:PORT FILE``
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from deadhop.lab.services import endpoint
from deadhop.model.dns import RR, Message, Rcode
from deadhop.wire.build import write_message
from deadhop.wire.dns import read_message
from deadhop.wire.framing import Framer, frame
from deadhop.wire.names import WireError

CHAIN = 16


class Zone:
    """The records of a file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._records: dict[str, list[RR]] = {}

    def records(self) -> dict[str, list[RR]]:
        about = os.stat(self.path)
        stamp = about.st_mtime_ns, about.st_ino
        if stamp != self._stamp:
            found: dict[str, list[RR]] = {}
            with open(self.path) as file:
                for line in file:
                    name, ttl, rtype, *data = line.split()
                    found.setdefault(name.lower(), []).append(RR(name, int(ttl), rtype, " ".join(data)))
            self._records, self._stamp = found, stamp
        return self._records

    def answer(self, data: bytes, *, limit: int = 65535) -> bytes:
        """The reply to a query. Raises :class:`WireError` for what is no query."""
        query = read_message(data)
        if not query.questions or query.response:
            raise WireError("no question")
        asked = query.questions[0]
        records = self.records()
        name, answers = asked.name.lower(), []
        known = name in records
        for _ in range(CHAIN):
            here = records.get(name, [])
            matching = [rr for rr in here if rr.type == asked.type]
            cname = next((rr for rr in here if rr.type == "CNAME"), None)
            answers += matching or ([cname] if cname else [])
            if matching or cname is None:
                break
            name = cname.data.lower()
        reply = Message(
            id=query.id,
            response=True,
            authoritative=True,
            recursion_desired=query.recursion_desired,
            recursion_available=True,
            rcode=Rcode.NOERROR if known else Rcode.NXDOMAIN,
            questions=query.questions,
            answers=tuple(answers),
        )
        whole = write_message(reply)
        if len(whole) <= limit:
            return whole
        import msgspec

        return write_message(msgspec.structs.replace(reply, answers=(), truncated=True))


def main(listen: str, path: str) -> None:
    zone = Zone(path)
    family, address = endpoint(listen)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    udp.bind(address)
    tcp = socket.create_server(address, family=family, backlog=128)

    def converse(connection: socket.socket) -> None:
        with connection:
            framer = Framer()
            while piece := connection.recv(4096):
                for query in framer.feed(piece):
                    connection.sendall(frame(zone.answer(query)))

    def over_tcp() -> None:
        while True:
            connection, _peer = tcp.accept()
            threading.Thread(target=converse, args=(connection,), daemon=True).start()

    threading.Thread(target=over_tcp, daemon=True).start()
    print("ready", flush=True)
    while True:
        data, peer = udp.recvfrom(65535)
        try:
            udp.sendto(zone.answer(data, limit=1232), peer)
        except (WireError, OSError) as error:
            print(f"no answer to {peer[0]}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
