"""Answers every HTTP request with 200 OK on the address and port given, as a pod's readiness endpoint does."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    server = socket.create_server((sys.argv[1], int(sys.argv[2])))
    while True:
        connection, _peer = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")


if __name__ == "__main__":
    main()
