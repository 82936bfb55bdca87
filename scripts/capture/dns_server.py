"""A small DNS server that answers every SRV question with many records, in one UDP datagram with DF set, or over TCP.

IP_PMTUDISC_PROBE keeps DF on every datagram and ignores what ICMP taught, as servers outside Linux do.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading

import dns.flags
import dns.message
import dns.rrset

IP_MTU_DISCOVER, PROBE = 10, 3


def answer(data: bytes, count: int) -> bytes:
    query = dns.message.from_wire(data)
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA | dns.flags.RA
    name = query.question[0].name
    many = count if "big" in name.to_text() else 2
    records = [
        f"0 100 88 kdc{n:02}.site-{n % 7}.{'.'.join(name.to_text().split('.')[2:])}" for n in range(many)
    ]
    reply.answer.append(dns.rrset.from_text(name, 600, "IN", "SRV", *records))
    return reply.to_wire(max_size=65535)


def main() -> None:
    host, count = sys.argv[1], int(sys.argv[2])
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PROBE)
    udp.bind((host, 53))
    tcp = socket.create_server((host, 53))

    def over_tcp() -> None:
        while True:
            connection, _peer = tcp.accept()
            with connection:
                size = struct.unpack(">H", connection.recv(2))[0]
                reply = answer(connection.recv(size), count)
                connection.sendall(struct.pack(">H", len(reply)) + reply)

    threading.Thread(target=over_tcp, daemon=True).start()
    while True:
        data, peer = udp.recvfrom(4096)
        udp.sendto(answer(data, count), peer)


if __name__ == "__main__":
    main()
