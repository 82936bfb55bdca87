"""What both transports do with a query and its answer. The sockets are in ``udp.py`` and ``tcp.py``.

A query is judged (``dnsproxy.CheckAllowed`` in the core) and forwarded under an id of our own. An answer counts only
where it matches an outstanding query: it came on the socket connected to the server that was asked, has our id and
repeats the question, letter case aside. Its addresses go to the core; the answer leaves when journal and kernel have
them, or when ``tofqdns-proxy-response-max-delay`` is over. The same bytes for the same endpoint within a second are
not learned again: expiry would move by less than the second that the DNS GC itself is accurate to.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from deadhop.agent.core import Core
from deadhop.agent.endpoints import Endpoint
from deadhop.agent.flows import FlowLog
from deadhop.agent.journal import Journal
from deadhop.agent.loop import Loop
from deadhop.agent.sockets import Address
from deadhop.agent.stats import Stats
from deadhop.agent.worker import Worker
from deadhop.fqdn.admission import Failure, Precheck, precheck, reply_rcode
from deadhop.fqdn.answers import MessageDetails, bad_answer_reaches_client
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import V1_18
from deadhop.wire.build import build_error
from deadhop.wire.dns import WireError, address_text, answer_types, read_answer, read_question

RELEARN_AFTER = 1.0
RENEW_EVERY, RENEWALS = 0.1, 64
"""Leases are renewed a few at a time: a large transaction would hold back the answers that wait for the kernel."""
MEMO = 8_192
"""Entries of each memo; a memo that is full is emptied."""
QUERY_MEMO_OCTETS, MEMO_OCTETS = 300, 1024
"""Longer queries and answers are not kept in a memo."""
OUTSTANDING = 32_768
OUTSTANDING_OF_ENDPOINT = 8_192
_HEADER = struct.Struct("!6H")

Release = Callable[[bytes], None]
"""Sends an answer, without its id, to the client."""


class Allowed(msgspec.Struct, frozen=True):
    """A query that may be forwarded. ``question`` is its question section as the client wrote it."""

    endpoint: Endpoint
    server: Address
    details: MessageDetails
    question: bytes


class Refusal(NamedTuple):
    """A reply of the proxy's own; empty where the query is ignored."""

    reply: bytes


class _Held(NamedTuple):
    release: Release
    data: bytes


IGNORED = Refusal(b"")


class Proxy:
    """Judges queries and learns from answers, for every transport."""

    def __init__(
        self,
        core: Core,
        loop: Loop,
        worker: Worker,
        journal: Journal,
        flows: FlowLog,
        stats: Stats,
        *,
        rate_limit: int = 0,
        set_failed: Callable[[str], None],
    ) -> None:
        self.core = core
        self.loop = loop
        self.worker = worker
        self.journal = journal
        self.flows = flows
        self.stats = stats
        self.rate_limit = rate_limit
        self.set_failed = set_failed
        self.outstanding = 0
        self._most = min(OUTSTANDING, core.options.concurrency_limit or OUTSTANDING)
        self._by_endpoint: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        self._waiting: deque[tuple[float, Callable[[bool], None]]] = deque()
        self._judged: dict[tuple[str, bytes, bytes], Allowed] = {}
        self._parsed: dict[bytes, MessageDetails | None] = {}
        self._recent: dict[tuple[int, bytes], tuple[float, MessageDetails]] = {}
        self._ready: list[_Held] = []
        self._holding: list[_Held] = []
        loop.end_of_round.append(self._settle)
        loop.every(RENEW_EVERY, self._renew)
        loop.every(1.0, self._second)

    def forget(self) -> None:
        """Policy has changed: no verdict of before counts."""
        self._judged.clear()
        self._recent.clear()

    # Queries

    def judge(
        self, data: bytes, client: Address, place: bytes, server: Address, protocol: str
    ) -> Allowed | Refusal:
        """Decide one query. ``place`` stands for server and transport in the memo.

        The memo holds whole messages but for their id, so none can borrow another's verdict.
        """
        count = self.stats.count
        count["received"] += 1
        message = client[0], place, data[2:]
        known = self._judged.get(message)
        if known is not None:
            if self.rate_limit and not self._within_rate(known.endpoint.id):
                return self._fail(data, Failure.OTHER, "rate_limited")
            self.flows.query(known.endpoint, client, server, protocol, known.details, "FORWARDED")
            return known
        if refusal := self._prechecked(data):
            return refusal
        try:
            asked = read_question(data)
            name = fqdn(asked.name)
        except WireError:
            count["parse_errors"] += 1
            return Refusal(_bare(data, 1))
        endpoint = self.core.by_ip.get(client[0])
        if endpoint is None or not endpoint.id:
            return self._fail(data, Failure.NO_ENDPOINT, "no_endpoint")
        if self.rate_limit and not self._within_rate(endpoint.id):
            return self._fail(data, Failure.OTHER, "rate_limited")
        details = MessageDetails(qname=name, qtypes=(asked.type,))
        if not self.core.allows(endpoint.id, server[0], server[1], protocol, name):
            self.flows.query(endpoint, client, server, protocol, details, "DROPPED")
            return self._fail(data, Failure.POLICY, "denied")
        self.flows.query(endpoint, client, server, protocol, details, "FORWARDED")
        allowed = Allowed(endpoint, server, details, data[12 : asked.end])
        if len(data) <= QUERY_MEMO_OCTETS:
            if len(self._judged) >= MEMO:
                self._judged.clear()
            self._judged[message] = allowed
        return allowed

    def _prechecked(self, data: bytes) -> Refusal | None:
        if len(data) < 12:
            self.stats.count["parse_errors"] += 1
            return IGNORED
        _, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
        verdict = precheck(
            response=bool(flags & 0x8000),
            opcode=flags >> 11 & 15,
            questions=questions,
            answers=answers,
            authority=authority,
            additional=additional,
        )
        if verdict is Precheck.ACCEPT:
            return None
        self.stats.count["parse_errors"] += 1
        if verdict is Precheck.IGNORE:
            return IGNORED
        return Refusal(_bare(data, 4 if verdict is Precheck.NOTIMP else 1))

    def _fail(self, data: bytes, failure: Failure, counter: str) -> Refusal:
        """The reply to a query that is not forwarded, or came to nothing."""
        self.stats.count[counter] += 1
        options = self.core.options
        rcode = reply_rcode(failure, options.reject_response_code, self.core.version)
        if rcode is None:
            return IGNORED
        try:
            return Refusal(build_error(data, rcode))
        except (WireError, ValueError):
            return Refusal(_bare(data, rcode))

    def failed(self, query: bytes, failure: Failure, counter: str) -> bytes:
        """The reply to a forwarded query that came to nothing, empty where there is none."""
        return self._fail(query, failure, counter).reply

    # Limits

    def _within_rate(self, endpoint: int) -> bool:
        asked = self._asked.get(endpoint, 0) + 1
        self._asked[endpoint] = asked
        return asked <= self.rate_limit

    def takes(self, endpoint: int) -> bool:
        """Take a place among the outstanding queries at once; False where :meth:`begin` has to decide."""
        mine = self._by_endpoint.get(endpoint, 0)
        if self.outstanding >= self._most or mine >= OUTSTANDING_OF_ENDPOINT:
            return False
        self.outstanding += 1
        self._by_endpoint[endpoint] = mine + 1
        return True

    def begin(self, endpoint: int, data: bytes, go: Callable[[], None], refuse: Release) -> None:
        """Take a place among the outstanding queries and ``go``, now or within the grace period; else ``refuse``."""
        mine = self._by_endpoint.get(endpoint, 0)
        if self.outstanding >= OUTSTANDING or mine >= OUTSTANDING_OF_ENDPOINT:
            refuse(self._fail(data, Failure.OTHER, "limited").reply)
            return
        options = self.core.options
        if options.concurrency_limit and self.outstanding >= options.concurrency_limit:
            grace = options.concurrency_processing_grace_period
            if not grace or len(self._waiting) >= OUTSTANDING_OF_ENDPOINT:
                refuse(self._fail(data, Failure.SEMAPHORE_FULL, "semaphore_rejected").reply)
                return

            def resume(granted: bool) -> None:
                if granted:
                    self._begun(endpoint)
                    go()
                else:
                    refuse(self._fail(data, Failure.SEMAPHORE_TIMED_OUT, "semaphore_rejected").reply)

            self._waiting.append((time.monotonic() + grace, resume))
            self.loop.after(grace, self._give_up)
            return
        self.outstanding += 1
        self._by_endpoint[endpoint] = mine + 1
        go()

    def _begun(self, endpoint: int) -> None:
        self.outstanding += 1
        self._by_endpoint[endpoint] = self._by_endpoint.get(endpoint, 0) + 1

    def ended(self, endpoint: int) -> None:
        """An outstanding query is over, in whatever way."""
        self.outstanding -= 1
        self._by_endpoint[endpoint] -= 1
        if self._waiting:
            self._waiting.popleft()[1](True)

    def _give_up(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1](False)

    def _second(self) -> None:
        self._asked.clear()

    # Answers

    def repeated(self, allowed: Allowed, client: Address, protocol: str, data: bytes) -> bool:
        """Whether the same answer was learned a moment ago and may leave at once; it is accounted for then."""
        endpoint = allowed.endpoint
        last = self._recent.get((endpoint.id, data[2:]))
        if last is None or time.time() - last[0] >= RELEARN_AFTER:
            return False
        self.flows.answer(endpoint, client, allowed.server, protocol, last[1])
        self.stats.count["answered"] += 1
        return True

    def answer(self, allowed: Allowed, client: Address, protocol: str, data: bytes, release: Release) -> None:
        """Learn from an answer to an outstanding query that is not :meth:`repeated`, and release it.

        ``release`` gets the data without its id.
        """
        body = data[2:]
        endpoint = allowed.endpoint
        now = time.time()
        details = self._details(data, body)
        if details is None:
            self.flows.query(endpoint, client, allowed.server, protocol, allowed.details, "ERROR")
            query = data[:2] + b"\1\0\0\1\0\0\0\0\0\0" + allowed.question
            release(self._fail(query, Failure.BAD_RESPONSE, "bad_answers").reply[2:])
            return
        waits, line = self.core.learn(endpoint.id, details, now)
        if line is not None:
            self.stats.count["learned"] += 1
            self.journal.add(line)
            if len(body) <= MEMO_OCTETS:
                if len(self._recent) >= MEMO:
                    self._recent.clear()
                self._recent[endpoint.id, body] = now, details
            (self._holding if waits else self._ready).append(_Held(release, body))
        else:
            release(body)
        self.stats.count["answered"] += 1
        self.flows.answer(endpoint, client, allowed.server, protocol, details)

    def _details(self, data: bytes, body: bytes) -> MessageDetails | None:
        if body in self._parsed:
            return self._parsed[body]
        details: MessageDetails | None
        try:
            found = read_answer(data)
            version = self.core.version
            bad = version < V1_18 and not found.in_order
            if bad and not bad_answer_reaches_client(version):
                details = None
            else:
                details = MessageDetails(
                    qname=fqdn(found.query.name),
                    qtypes=(found.query.type,),
                    response=True,
                    ttl=found.ttl,
                    ips=() if bad else tuple(map(address_text, found.addresses)),
                    cnames=tuple(found.cnames),
                    rcode=found.rcode,
                    answer_types=answer_types(data, found.query),
                )
        except WireError:
            details = None
        if len(body) <= MEMO_OCTETS:
            if len(self._parsed) >= MEMO:
                self._parsed.clear()
            self._parsed[body] = details
        return details

    def _settle(self) -> None:
        """The end of a round: the journal, then the kernel, then the answers."""
        if not self._ready and not self._holding:
            return
        self.journal.flush()
        for held in self._ready:
            held.release(held.data)
        self._ready.clear()
        if not self._holding:
            return
        group, self._holding = self._holding, []
        change, batch = self.core.sets.additions(time.time())

        def release() -> None:
            for held in group:
                held.release(held.data)
            group.clear()

        def done(error: str) -> None:
            self.core.sets.applied(batch)
            if error:
                self.set_failed(error)
            release()

        def late() -> None:
            if group:
                self.stats.count["update_timeouts"] += len(group)
                release()

        self.worker.apply(change, done)
        if group:  # not applied yet
            self.loop.after(self.core.options.proxy_response_max_delay, late)

    def _renew(self) -> None:
        sets = self.core.sets
        if not sets.renewing:
            return
        change = sets.renewals(time.time(), max(RENEWALS, sets.renewing // 50))
        self.worker.apply(change, lambda error: self.set_failed(error) if error else None)


def _bare(data: bytes, rcode: int) -> bytes:
    """A reply without the question, where that could not be read."""
    flags = int.from_bytes(data[2:4], "big") & 0x7910
    return _HEADER.pack(int.from_bytes(data[:2], "big"), 0x8000 | flags | rcode, 0, 0, 0, 0)
