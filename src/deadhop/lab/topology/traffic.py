"""What a step sends: datagrams that an echo answers, and HTTP requests. Sockets are made inside the namespace."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from deadhop.lab.services import endpoint, udp_socket
from deadhop.lab.topology.made import Lab
from deadhop.model.topology import Http, Udp

#: How long an answer may take within one machine before it counts as lost, in seconds.
PATIENCE = 0.7


@dataclass(frozen=True, slots=True)
class Outcome:
    """``answered`` datagrams of ``sent``, or an HTTP ``status`` (0: none); ``errno`` is the sender's own error."""

    sent: int = 0
    answered: int = 0
    status: int | None = None
    errno: str = ""

    def __str__(self) -> str:
        if self.status is not None:
            text = f"HTTP {self.status}" if self.status else "no answer"
        else:
            text = f"{self.answered} of {self.sent} answered"
        return text + (f", {self.errno}" if self.errno else "")


def udp(lab: Lab, name: str, wanted: Udp) -> Outcome:
    """Sends the datagrams one after the other and waits for each answer."""
    family, address = endpoint(wanted.to)
    answered, failed = 0, ""
    for _flow in range(wanted.flows):
        with lab.inside(name):
            sock = udp_socket(family, wanted.pmtudisc)
        with sock:
            if wanted.source:
                sock.bind((wanted.source, 0))
            sock.settimeout(PATIENCE)
            for number in range(wanted.count):
                try:
                    sock.sendto(b"%07d " % number + bytes(max(wanted.size - 8, 0)), address)
                    sock.recv(65535)
                    answered += 1
                except TimeoutError:
                    continue
                except OSError as error:
                    failed = errno.errorcode.get(error.errno or 0, str(error))
    return Outcome(sent=wanted.count * wanted.flows, answered=answered, errno=failed)


def http(lab: Lab, name: str, wanted: Http) -> Outcome:
    """One request on one connection."""
    parts = urlsplit(wanted.url)
    host = parts.hostname or ""
    with lab.inside(name):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        sock.settimeout(PATIENCE)
        try:
            if wanted.source:
                sock.bind((wanted.source, 0))
            sock.connect((host, parts.port or 80))
            head = (
                f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {host}\r\ncontent-length: {wanted.size}\r\n\r\n"
            )
            sock.sendall(head.encode() + bytes(wanted.size))
            data = sock.recv(4096)
        except TimeoutError:
            return Outcome(sent=1, status=0, errno="ETIMEDOUT")
        except OSError as error:
            return Outcome(sent=1, status=0, errno=errno.errorcode.get(error.errno or 0, str(error)))
    words = data.split(b" ", 2)
    return Outcome(sent=1, status=int(words[1]) if len(words) > 1 and words[1].isdigit() else 0)
