"""HTTP as clients, proxies and applications print it, and failed dials."""

from __future__ import annotations

from deadhop.model.record import Record


class HttpExchange(Record, frozen=True, kw_only=True):
    """A client's session (curl, wget). ``dialled`` is the address connected to; ``status`` None without a response.

    ``error`` is a class: ``refused``, ``timeout``, ``reset``, ``empty``, ``unresolved``, ``unreachable``,
    ``tls``, ``certificate`` or ``other``. Header names are lower-case.
    """

    tool: str = "curl"
    url: str = ""
    method: str = "GET"
    host: str = ""
    dialled: str = ""
    port: int | None = None
    status: int | None = None
    request_headers: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    error: str = ""
    error_text: str = ""

    def header(self, name: str) -> str:
        return next((v for k, v in self.headers if k == name), "")


class HttpRequestDump(Record, frozen=True, kw_only=True):
    """An outgoing request as an application logged it: where it dials and what headers it sends."""

    dial_host: str = ""
    dial_port: int | None = None
    tls: bool | None = None
    method: str = ""
    path: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def host_header(self) -> str:
        return next((v for k, v in self.headers if k.lower() == "host"), "")


class DialFailure(Record, frozen=True, kw_only=True):
    """A failed dial or lookup in a program's log. ``error`` as in :class:`HttpExchange`, or ``no-such-host``."""

    target: str = ""
    host: str = ""
    ip: str = ""
    port: int | None = None
    proto: str = "tcp"
    error: str
    resolver: str = ""
    program: str = ""
    text: str = ""


class LocalReply(Record, frozen=True, kw_only=True):
    """The body that Envoy generates itself (source/common/router, local reply)."""

    reset_reason: str = ""
    transport_failure: str = ""
    retried: bool = False
    text: str = ""


class ErrorPage(Record, frozen=True, kw_only=True):
    """An error page that a known server generates itself (nginx, Apache, Traefik)."""

    server: str
    status: int
    text: str
