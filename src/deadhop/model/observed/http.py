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


class NginxProxy(Record, frozen=True, kw_only=True):
    """A ``location`` (or a bare ``proxy_pass``) of an nginx configuration.

    ``upstream`` holds the servers of the upstream block that ``proxy_pass`` names, as written; ``headers`` the
    ``proxy_set_header`` pairs in force there; ``settings`` other directives (``proxy_http_version``), ``variables``
    the values of ``set``.
    """

    location: str = ""
    server_names: tuple[str, ...] = ()
    proxy_pass: str = ""
    upstream_name: str = ""
    upstream: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str | None:
        """The value set for a request header; None where the configuration does not set it."""
        return next((v for k, v in reversed(self.headers) if k.lower() == name.lower()), None)

    def setting(self, name: str) -> str:
        return next((v for k, v in reversed(self.settings) if k == name), "")

    @property
    def target(self) -> str:
        """What ``proxy_pass`` leads to, variables and upstream blocks resolved: ``host`` or ``host:port``."""
        if self.upstream:
            return self.upstream[0]
        text = self.proxy_pass
        for name, value in self.variables:
            text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
        return text.partition("://")[2].partition("/")[0] or text


class ProxyServer(Record, frozen=True, kw_only=True):
    """A server behind a reverse proxy: as configured (``target``, and the ``resolvers`` that ask for its name again; empty
    where nothing does), or as the running proxy holds it (``address``, ``state`` up or down)."""

    proxy: str
    backend: str = ""
    name: str = ""
    target: str = ""
    address: str = ""
    resolvers: str = ""
    state: str = ""
