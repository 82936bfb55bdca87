"""DNS as clients and servers print it."""

from __future__ import annotations

import msgspec

from deadhop.model.record import Record


class Answer(msgspec.Struct, frozen=True):
    """One resource record of an answer. ``ttl`` is in seconds, None where the tool does not print it."""

    name: str
    type: str
    data: str
    ttl: int | None = None


class DnsQuery(Record, frozen=True, kw_only=True):
    """One query as a server logged it (CoreDNS ``log``). Sizes in bytes, ``duration`` in seconds.

    ``answer_size`` is counted before compression and truncation (plugin/log), so it is no size on the wire.

    ``rcode`` is empty where the server logged no answer (``- -``). ``count`` is how often the same line
    (client, question, rcode, transport) was seen where a long log was folded; ``answers`` the number of addresses
    where the log names them.
    """

    client: str
    client_port: int | None = None
    id: int | None = None
    qname: str
    qtype: str
    transport: str = "udp"
    size: int | None = None
    bufsize: int | None = None
    rcode: str = ""
    flags: tuple[str, ...] = ()
    answer_size: int | None = None
    duration: float | None = None
    server: str = ""
    count: int = 1
    answers: int | None = None


class DnsServerError(Record, frozen=True, kw_only=True):
    """A server's complaint about an upstream (CoreDNS ``plugin/errors``, dnsmasq, kube-dns).

    ``error`` is a class: ``timeout``, ``refused``, ``unreachable``, ``overflow`` (unpacking an oversized answer),
    ``no-servers``, ``loop`` or ``other``; ``upstream`` is ``ip:port`` where printed.
    """

    qname: str = ""
    qtype: str = ""
    error: str
    upstream: str = ""
    local: str = ""
    text: str = ""


class DnsLookup(Record, frozen=True, kw_only=True):
    """A lookup made by a tool (dig, nslookup, host, getent) or an application, and what it was told.

    ``status``: an rcode mnemonic, ``TIMEOUT``, ``UNREACHABLE``, ``PARSE-ERROR`` or empty where not said. ``last`` is
    the name that the tool's failure names, where it is not ``qname``: the last one of its search. ``absolute`` is
    a name typed with its final dot.
    """

    tool: str
    qname: str = ""
    qtype: str = ""
    server: str = ""
    status: str = ""
    answers: tuple[Answer, ...] = ()
    answer_count: int | None = None
    size: int | None = None
    transport: str = ""
    truncated: bool = False
    flags: tuple[str, ...] = ()
    text: str = ""
    last: str = ""
    absolute: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(a.data for a in self.answers if a.type in ("A", "AAAA"))

    @property
    def failed(self) -> bool:
        return self.status not in ("", "NOERROR")


class ResolvConf(Record, frozen=True, kw_only=True):
    """A resolv.conf. ``options`` as written (``ndots:5``)."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostsEntry(Record, frozen=True, kw_only=True):
    """One line of ``/etc/hosts``."""

    address: str
    names: tuple[str, ...]


class CorefileText(Record, frozen=True, kw_only=True):
    """A Corefile, bare or out of a ConfigMap (``key``), to be parsed by the DNS hop."""

    text: str
    key: str = ""
