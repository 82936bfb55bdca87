"""Applications of the oracle: small TCP servers on loopback, each with one behaviour.

An answer says whether the request came with the name of a mesh client (``X-Forwarded-Client-Cert``).
"""

from __future__ import annotations

import contextlib
import socket
import threading

OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
PLAIN_ERROR = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GREETING = b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00"


class App:
    """A listener that behaves as the named facts of :data:`deadhop.model.mesh.FACTS` say; without any it answers."""

    def __init__(self, address: str, port: int, behaviour: frozenset[str] = frozenset()) -> None:
        self.behaviour = behaviour
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(64)
        self.port: int = self.socket.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            self._behave(connection)
        self._open.discard(connection)

    def _behave(self, connection: socket.socket) -> None:
        if "server_first_binary" in self.behaviour:
            connection.sendall(GREETING)
            while connection.recv(4096):
                pass
            return
        data = connection.recv(65536)
        if not data:
            return
        if data[0] == 0x16:
            if "tls_hello_gets_silence" in self.behaviour:
                while connection.recv(4096):
                    pass
            elif "closes_without_response" not in self.behaviour:
                connection.sendall(PLAIN_ERROR)
            return
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        if "closes_without_response" in self.behaviour:
            return
        if "never_answers" in self.behaviour:
            while connection.recv(4096):
                pass
            return
        said = b"ok, mutual TLS\n" if b"x-forwarded-client-cert" in data.lower() else b"ok\n"
        connection.sendall(OK % (len(said), said))

    def close(self) -> None:
        """Stop listening and drop what is open."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.close()
