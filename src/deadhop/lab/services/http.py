"""Answers every HTTP request with 200 once its body is read. ``python -m deadhop.lab.services.http ADDRESS:PORT``"""

from __future__ import annotations

import re
import socket
import sys
import threading

from deadhop.lab.services import endpoint


def serve(connection: socket.socket) -> None:
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length:\s*(\d+)", head)
        wanted = int(length[1]) if length else 0
        got = len(body)
        while got < wanted:
            more = connection.recv(65536)
            if not more:
                return
            got += len(more)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")


def main(listen: str) -> None:
    family, address = endpoint(listen)
    server = socket.create_server(address, family=family)
    print("ready", flush=True)
    while True:
        connection, _peer = server.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
