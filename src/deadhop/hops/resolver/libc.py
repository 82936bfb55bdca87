"""``getaddrinfo`` of glibc and musl.

glibc (``resolv/res_query.c``): after NXDOMAIN, NODATA and SERVFAIL the search goes on; any other failure (REFUSED,
NOTIMP, timeout) ends it, and then the name is still tried as it stands. SERVFAIL, NOTIMP, REFUSED and timeouts
first go round all servers ``attempts`` times.

musl (``src/network/lookup_name.c``, ``res_msend.c``): enough dots mean no search at all. Only NXDOMAIN goes on to the
next candidate; NODATA ends the lookup. REFUSED counts as no answer, SERVFAIL is re-asked twice for each question,
and after the last attempt the lookup fails. A search entry ``.`` makes a query that does not parse: it fails there.
"""

from __future__ import annotations

from deadhop.hops.resolver.exchange import TIMEOUT, Lookup, Reply, Session, Told, expand

NOT_FOUND = "EAI_NONAME"
NO_DATA = "EAI_NODATA"
TRY_AGAIN = "EAI_AGAIN"
NO_RECOVERY = "EAI_FAIL"
_NEXT_SERVER = ("SERVFAIL", "NOTIMP", "REFUSED", TIMEOUT)


def _glibc_replies(session: Session, name: str, server: str) -> list[Reply]:
    """The replies of one server (``__res_context_send``): both questions at once, or one after the other.

    One truncated reply sends both questions again over TCP (``send_dg`` sets ``v_circuit``). With ``single-request`` the second
    question waits for the first reply, and is not asked where that sends glibc to the next server.
    """
    replies: list[Reply] = []
    for rtype in session.types:
        replies.append(session.ask_once(name, rtype, server))
        if session.conf.single_request and replies[-1].rcode in _NEXT_SERVER:
            return replies
        if session.conf.single_request and replies[-1].truncated:
            break
    if session.transport == "udp" and any(reply.truncated for reply in replies):
        return [session.ask_once(name, rtype, server, "tcp") for rtype in session.types]
    return replies


def _glibc_candidate(session: Session, name: str) -> tuple[tuple[str, ...], str, str]:
    """(addresses, error, the rcode that decided) of one name."""
    last = TIMEOUT
    for _ in range(session.attempts):
        for server in session.servers:
            replies = _glibc_replies(session, name, server)
            good = [reply for reply in replies if reply.rcode not in _NEXT_SERVER]
            if not good:
                last = replies[-1].rcode
                continue
            addresses = tuple(a for reply in good for a in reply.addresses)
            if addresses:
                return addresses, "", "NOERROR"
            decided = next((r.rcode for r in good if r.rcode != "NOERROR"), "NOERROR")
            error = {"NXDOMAIN": NOT_FOUND, "NOERROR": NO_DATA}.get(decided, NO_RECOVERY)
            return (), error, decided
    return (), TRY_AGAIN, last


def _told(error: str) -> str:
    """NO_RECOVERY makes nss_dns unavailable, and getaddrinfo without another source says that there is no such name."""
    return NOT_FOUND if error == NO_RECOVERY else error


def glibc(session: Session, name: str) -> Lookup:
    """One lookup (``__res_context_search``)."""
    as_it_stands = expand(name, "")
    saved = ""
    tried = False
    if name.endswith(".") or name.count(".") >= session.ndots:
        addresses, error, _ = _glibc_candidate(session, as_it_stands)
        if not error or name.endswith("."):
            return session.done(Told(addresses=addresses, error=_told(error), name=as_it_stands))
        saved, tried = error, True
    root_listed = no_data = servfail = False
    error, at = saved or NOT_FOUND, as_it_stands
    for domain in session.search:
        at = expand(name, domain)
        if at == as_it_stands:
            root_listed = True
            if tried:
                continue
        addresses, error, rcode = _glibc_candidate(session, at)
        if not error:
            return session.done(Told(addresses=addresses, name=at))
        if error == NO_DATA:
            no_data = True
        elif error == TRY_AGAIN and rcode == "SERVFAIL":
            servfail = True
        elif error != NOT_FOUND:
            break
    if not tried and not root_listed:
        at = as_it_stands
        addresses, error, _ = _glibc_candidate(session, at)
        if not error:
            return session.done(Told(addresses=addresses, name=at))
    if saved:
        error = saved
    elif no_data:
        error = NO_DATA
    elif servfail:
        error = TRY_AGAIN
    return session.done(Told(error=_told(error), name=at))


def _musl_candidate(session: Session, name: str) -> tuple[tuple[str, ...], str]:
    """(addresses, error) of one name; both empty after NXDOMAIN."""
    accepted: dict[str, Reply] = {}
    for _ in range(session.attempts):
        pending = [
            (rtype, server) for rtype in session.types if rtype not in accepted for server in session.servers
        ]
        again = 2 * len(session.types)
        while pending:
            refused: list[tuple[str, str]] = []
            for rtype, server in pending:
                reply = session.ask(name, rtype, server)
                if reply.rcode in ("NOERROR", "NXDOMAIN"):
                    accepted.setdefault(rtype, reply)
                elif reply.rcode == "SERVFAIL" and again:
                    again -= 1
                    refused.append((rtype, server))
            pending = [(rtype, server) for rtype, server in refused if rtype not in accepted]
        if len(accepted) == len(session.types):
            break
    if len(accepted) < len(session.types):
        return (), TRY_AGAIN
    replies = [accepted[rtype] for rtype in session.types]
    if any(reply.rcode == "NXDOMAIN" for reply in replies):
        return (), ""
    addresses = tuple(a for reply in replies for a in reply.addresses)
    if addresses:
        return addresses, ""
    return (), NO_DATA if session.profile.tells_no_data else NOT_FOUND


def musl(session: Session, name: str) -> Lookup:
    """One lookup (``name_from_dns_search``)."""
    at = expand(name, "")
    if not name.endswith(".") and name.count(".") < session.ndots:
        for domain in session.search:
            at = expand(name, domain)
            if not domain.strip("."):
                return session.done(Told(error=TRY_AGAIN, name=at))
            addresses, error = _musl_candidate(session, at)
            if addresses or error:
                return session.done(Told(addresses=addresses, error=error, name=at))
        at = expand(name, "")
    addresses, error = _musl_candidate(session, at)
    if not addresses and not error:
        error = NOT_FOUND
    return session.done(Told(addresses=addresses, error=error, name=at))
