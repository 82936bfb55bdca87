"""Answers every HTTP request with the head that it came with. ``python -m deadhop.lab.services.echo ADDRESS:PORT``"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deadhop.lab.services import endpoint


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.requestline}\r\n{self.headers}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The sidecar logs."""


if __name__ == "__main__":
    _, address = endpoint(sys.argv[1])
    server = ThreadingHTTPServer(address, Handler)
    print("ready", flush=True)
    server.serve_forever()
