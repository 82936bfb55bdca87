"""Sends datagrams back, as they came or as so many bytes, with a chosen IP_MTU_DISCOVER mode.

``python -m deadhop.lab.services.udp_echo ADDRESS:PORT SIZE PMTUDISC``
"""

from __future__ import annotations

import sys

from deadhop.lab.services import endpoint, udp_socket


def main(listen: str, size: int, mode: str) -> None:
    family, address = endpoint(listen)
    server = udp_socket(family, mode)
    server.bind(address)
    print("ready", flush=True)
    while True:
        data, peer = server.recvfrom(65535)
        try:
            server.sendto(data if not size else data[:8].ljust(size, b"."), peer)
        except OSError as error:
            print(f"no answer to {peer[0]}: {error.strerror}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
