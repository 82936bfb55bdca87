"""A DNS server that answers SRV questions: those for a name with ``big`` in one datagram of many records.

It ignores the size that the client announces, as servers do whose answers start the incidents that the lab plays.
``python -m deadhop.lab.services.dns ADDRESS:PORT RECORDS PMTUDISC``
"""

from __future__ import annotations

import socket
import sys
import threading

from deadhop.lab.services import endpoint, udp_socket
from deadhop.model.dns import RR, Message
from deadhop.wire.build import write_message
from deadhop.wire.dns import read_message
from deadhop.wire.framing import Framer, frame
from deadhop.wire.names import WireError


def answer(data: bytes, count: int) -> bytes:
    """The reply to a query. Raises :class:`WireError` for what is no query."""
    query = read_message(data)
    if not query.questions:
        raise WireError("no question")
    name = query.questions[0].name
    zone = ".".join(name.rstrip(".").split(".")[2:]) or "example"
    many = count if "big" in name else 2
    records = tuple(
        RR(name=name, ttl=600, type="SRV", data=f"0 100 88 kdc{n:02}.site-{n % 7}.{zone}.")
        for n in range(many)
    )
    return write_message(
        Message(
            id=query.id,
            response=True,
            authoritative=True,
            recursion_desired=query.recursion_desired,
            recursion_available=True,
            questions=query.questions,
            answers=records,
        )
    )


def main(listen: str, count: int, mode: str) -> None:
    family, address = endpoint(listen)
    udp = udp_socket(family, mode)
    udp.bind(address)
    tcp = socket.create_server(address, family=family)

    def over_tcp() -> None:
        while True:
            connection, _peer = tcp.accept()
            with connection:
                framer = Framer()
                while piece := connection.recv(4096):
                    for query in framer.feed(piece):
                        connection.sendall(frame(answer(query, count)))

    threading.Thread(target=over_tcp, daemon=True).start()
    print("ready", flush=True)
    while True:
        data, peer = udp.recvfrom(65535)
        try:
            udp.sendto(answer(data, count), peer)
        except (WireError, OSError) as error:  # EMSGSIZE where the path is known to be smaller
            print(f"no answer to {peer[0]}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
