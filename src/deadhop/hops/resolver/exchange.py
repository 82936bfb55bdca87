"""One lookup in progress: names to try, questions sent, replies. Everything here is pure; time does not pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from deadhop.hops.resolver.profile import Profile
from deadhop.model.dns import RR, ResolvConf

TIMEOUT = "TIMEOUT"
UNREADABLE = "FORMERR"


class Ask(msgspec.Struct, frozen=True):
    """A question on its way: name with final dot, type, ``udp`` or ``tcp``, the server's address."""

    name: str
    type: str
    transport: str = "udp"
    server: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What came back: an rcode mnemonic or ``TIMEOUT``, the answer section, the TC bit."""

    rcode: str = "NOERROR"
    answers: tuple[RR, ...] = ()
    truncated: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(rr.data for rr in self.answers if rr.type in ("A", "AAAA"))


Answering = Callable[[Ask], Reply]


class Sent(msgspec.Struct, frozen=True):
    """One question that left, and the rcode (or ``TIMEOUT``) it met."""

    name: str
    type: str
    transport: str
    server: str
    rcode: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the application is told. ``error`` is the library's own word, empty on success.

    ``name`` is the candidate that was answered, or the one at which the search ended.
    """

    addresses: tuple[str, ...] = ()
    error: str = ""
    name: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


class Lookup(msgspec.Struct, frozen=True):
    """One lookup: every question in the order sent, and the outcome."""

    sent: tuple[Sent, ...]
    told: Told

    @property
    def questions(self) -> tuple[tuple[str, str], ...]:
        """(name, type) of each question."""
        return tuple((sent.name, sent.type) for sent in self.sent)


def conf_from_options(
    nameservers: Iterable[str] = (), search: Iterable[str] = (), options: Iterable[str] = ()
) -> ResolvConf:
    """A ``ResolvConf`` from the words of a resolv.conf; options that nobody knows are passed over."""
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    flags = {"rotate", "single-request", "single-request-reopen", "use-vc", "edns0", "trust-ad", "no-aaaa"}
    found: set[str] = set()
    for option in options:
        word, _, value = option.partition(":")
        if word in numbers and value.isdecimal() and len(value) < 9:
            numbers[word] = int(value)
        elif word in flags:
            found.add(word)
    return ResolvConf(
        nameservers=tuple(nameservers),
        search=tuple(search),
        ndots=numbers["ndots"],
        timeout=numbers["timeout"],
        attempts=numbers["attempts"],
        rotate="rotate" in found,
        single_request="single-request" in found,
        single_request_reopen="single-request-reopen" in found,
        use_vc="use-vc" in found,
        edns0="edns0" in found,
        trust_ad="trust-ad" in found,
        no_aaaa="no-aaaa" in found,
    )


class Session:
    """The questions of one lookup, after the library's caps on resolv.conf."""

    def __init__(self, profile: Profile, conf: ResolvConf, answering: Answering) -> None:
        self.profile = profile
        self.conf = conf
        self.answering = answering
        self.sent: list[Sent] = []
        servers = conf.nameservers or ("127.0.0.1",)
        self.servers = servers[: profile.max_servers or None]
        self.search = conf.search[: profile.max_search or None]
        self.ndots = min(conf.ndots, profile.max_ndots)
        attempts = profile.attempts if profile.attempts is not None else conf.attempts
        self.attempts = max(1, min(attempts, profile.max_attempts) if profile.max_attempts else attempts)
        no_aaaa = conf.no_aaaa and "no-aaaa" in profile.options
        self.types = tuple(t for t in profile.types if not (no_aaaa and t == "AAAA"))
        self.transport = "tcp" if conf.use_vc and "use-vc" in profile.options else "udp"

    def ask_once(self, name: str, rtype: str, server: str, transport: str = "") -> Reply:
        """Ask one server, and leave a truncated answer as it is."""
        return self._send(Ask(name, rtype, transport or self.transport, server))

    def ask(self, name: str, rtype: str, server: str) -> Reply:
        """Ask one server; over TCP where resolv.conf says so, and again where the answer was truncated."""
        reply = self._send(Ask(name, rtype, self.transport, server))
        if reply.truncated and self.transport == "udp" and self.profile.tcp_on_truncation:
            reply = self._send(Ask(name, rtype, "tcp", server))
        return reply

    def _send(self, ask: Ask) -> Reply:
        reply = self.answering(ask)
        self.sent.append(Sent(ask.name, ask.type, ask.transport, ask.server, reply.rcode))
        return reply

    def done(self, told: Told) -> Lookup:
        return Lookup(tuple(self.sent), told)


def expand(name: str, domain: str) -> str:
    """A candidate with its final dot."""
    return f"{name}.{domain.strip('.')}." if domain.strip(".") else f"{name.rstrip('.')}."
