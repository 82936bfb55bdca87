"""Go's own resolver (``net.Resolver`` without cgo): every failure goes on to the next candidate.

A name with enough dots is tried first, others last; entries ``.`` of the search list are dropped when resolv.conf is
read. For each question all servers are asked ``attempts`` times until one gives NOERROR or NXDOMAIN.
"""

from __future__ import annotations

from deadhop.hops.resolver.exchange import TIMEOUT, Lookup, Reply, Session, Told, expand

NO_SUCH_HOST = "no such host"
MISBEHAVING = "server misbehaving"
IO_TIMEOUT = "i/o timeout"
MAX_NAME = 254


def candidates(session: Session, name: str) -> list[str]:
    """The names to try in order (``dnsConfig.nameList``)."""
    bare = expand(name, "")
    if name.endswith("."):
        return [bare]
    longer = [expand(name, domain) for domain in session.search if domain.strip(".")]
    longer = [candidate for candidate in longer if len(candidate) <= MAX_NAME]
    return [bare, *longer] if name.count(".") >= session.ndots else [*longer, bare]


def _question(session: Session, name: str, rtype: str) -> Reply | str:
    error = MISBEHAVING
    for _ in range(session.attempts):
        for server in session.servers:
            reply = session.ask(name, rtype, server)
            if reply.rcode == "NXDOMAIN" or (reply.rcode == "NOERROR" and not reply.answers):
                return NO_SUCH_HOST
            if reply.rcode == "NOERROR":
                return reply
            error = IO_TIMEOUT if reply.rcode == TIMEOUT else MISBEHAVING
    return error


def golang(session: Session, name: str) -> Lookup:
    """One lookup (``goLookupIPCNAMEOrder`` with strict errors off, the default)."""
    bare = expand(name, "")
    error = ""
    at = bare
    for at in candidates(session, name):
        addresses: list[str] = []
        for rtype in session.types:
            result = _question(session, at, rtype)
            if isinstance(result, Reply):
                addresses.extend(result.addresses)
            elif not error or at != bare:
                error = result
        if addresses:
            return session.done(Told(addresses=tuple(addresses), name=at))
    return session.done(Told(error=error or NO_SUCH_HOST, name=at))
