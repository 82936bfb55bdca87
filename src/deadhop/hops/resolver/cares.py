"""c-ares (curl, Envoy, gRPC, Node.js' ``dns.resolve``): only NXDOMAIN and NODATA go on to the next candidate.

SERVFAIL, NOTIMP and REFUSED go to the next server; when all have been asked ``tries`` times they end the lookup, except
for a name of one label, which some stubs refuse (c-ares issue 852).
"""

from __future__ import annotations

from deadhop.hops.resolver.exchange import TIMEOUT, Lookup, Reply, Session, Told, expand

_ERRORS = {
    "NXDOMAIN": "ARES_ENOTFOUND",
    "NOERROR": "ARES_ENODATA",
    "SERVFAIL": "ARES_ESERVFAIL",
    "REFUSED": "ARES_EREFUSED",
    "NOTIMP": "ARES_ENOTIMP",
    "FORMERR": "ARES_EFORMERR",
    TIMEOUT: "ARES_ETIMEOUT",
}
_NEXT_SERVER = ("SERVFAIL", "NOTIMP", "REFUSED", TIMEOUT)


def _question(session: Session, name: str, rtype: str) -> Reply:
    reply = Reply(TIMEOUT)
    for _ in range(session.attempts):
        for server in session.servers:
            reply = session.ask(name, rtype, server)
            if reply.rcode not in _NEXT_SERVER:
                return reply
    return reply


def cares(session: Session, name: str) -> Lookup:
    """One lookup (``ares_getaddrinfo``)."""
    bare = expand(name, "")
    longer = [expand(name, domain) for domain in session.search]
    longer = [candidate for candidate in longer if candidate != bare]
    if name.endswith("."):
        order = [bare]
    else:
        order = [bare, *longer] if name.count(".") >= session.ndots else [*longer, bare]
    no_data = False
    rcode, at = "NXDOMAIN", bare
    for at in order:
        replies = [_question(session, at, rtype) for rtype in session.types]
        addresses = tuple(a for reply in replies if reply.rcode == "NOERROR" for a in reply.addresses)
        if addresses:
            return session.done(Told(addresses=addresses, name=at))
        rcode = next((r.rcode for r in replies if r.rcode not in ("NOERROR", "NXDOMAIN")), replies[-1].rcode)
        no_data = no_data or any(reply.rcode == "NOERROR" for reply in replies)
        single_label = at.count(".") == 1
        goes_on = rcode in ("NOERROR", "NXDOMAIN") or (single_label and rcode in ("SERVFAIL", "REFUSED"))
        if not goes_on:
            return session.done(Told(error=_ERRORS.get(rcode, "ARES_EBADRESP"), name=at))
    error = _ERRORS["NOERROR"] if no_data else _ERRORS.get(rcode, "ARES_EBADRESP")
    return session.done(Told(error=error, name=at))
