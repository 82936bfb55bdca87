"""What the counts of a DNS log say: who asks, for what, what the search list wastes, who asks CNAME only, what fails. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from deadhop.dns.toplog import SLOW, Tally

ADDRESS_TYPES = (b"A", b"AAAA")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


def report(tally: Tally, most: int = 10) -> dict[str, Any]:
    """The whole report as plain data; lists have ``most`` rows at most."""
    names: Counter[bytes] = Counter()
    rcodes: Counter[bytes] = Counter()
    for (name, rcode), n in tally.questions.items():
        names[name] += n
        rcodes[rcode] += n
    return {
        "schema": 1,
        "queries": tally.lines,
        "folded": tally.folded,
        "rcodes": {_text(k): n for k, n in rcodes.most_common()},
        "types": _by(tally.clients, 1),
        "transports": {_text(k): n for k, n in tally.transports.most_common()},
        "seconds": {"p50": _quantile(tally.times, 0.5), "p90": _quantile(tally.times, 0.9), "p99": _quantile(tally.times, 0.99)},
        "clients": _clients(tally, most),
        "names": [{"name": _text(k), "queries": n} for k, n in names.most_common(most)],
        "search": search_waste(tally.questions, tally.lines, most),
        "cname_only": _cname_only(tally, most),
        "slow": {"from_seconds": SLOW, "queries": tally.slow.total(),
                 "names": [{"name": _text(k), "queries": n} for k, n in tally.slow.most_common(most)]},
        "failing": [{"upstream": _text(up), "error": _text(error), "count": n}
                    for (up, error), n in tally.failing.most_common(most)],
    }  # fmt: skip


def _by(clients: Counter[tuple[bytes, bytes, bytes]], place: int) -> dict[str, int]:
    found: Counter[bytes] = Counter()
    for key, n in clients.items():
        found[key[place]] += n
    return {_text(k): n for k, n in found.most_common()}


def _quantile(times: Counter[bytes], share: float) -> float | None:
    rows = []
    for text, n in times.items():
        try:
            rows.append((float(text), n))
        except ValueError:
            continue
    rows.sort()
    wanted, seen = share * sum(n for _, n in rows), 0
    for seconds, n in rows:
        seen += n
        if seen >= wanted:
            return seconds
    return None


def _clients(tally: Tally, most: int) -> list[dict[str, Any]]:
    total: Counter[bytes] = Counter()
    missing: Counter[bytes] = Counter()
    failed: Counter[bytes] = Counter()
    for (client, _type, rcode), n in tally.clients.items():
        total[client] += n
        if rcode == b"NXDOMAIN":
            missing[client] += n
        elif rcode != b"NOERROR":
            failed[client] += n
    return [
        {"client": _client(c), "queries": n, "nxdomain": missing[c], "failed": failed[c]}
        for c, n in total.most_common(most)
    ]


def _client(octets: bytes) -> str:
    return _text(octets).rpartition("]")[0].rpartition("[")[2] or _text(octets)


def _cname_only(tally: Tally, most: int) -> list[dict[str, Any]]:
    """Clients that ask for CNAME and never for an address: a policy by names learns no address from them."""
    types: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for (client, qtype, _rcode), n in tally.clients.items():
        types[client][qtype] += n
    found = [
        (client, seen[b"CNAME"])
        for client, seen in types.items()
        if seen[b"CNAME"] and not any(seen[t] for t in ADDRESS_TYPES)
    ]
    found.sort(key=lambda pair: -pair[1])
    return [{"client": _client(c), "queries": n} for c, n in found[:most]]


def _splits(name: bytes) -> Iterable[tuple[bytes, bytes]]:
    """(base with final dot, suffix) at every dot but the last."""
    at = name.find(b".")
    while 0 <= at < len(name) - 1:
        yield name[: at + 1], name[at + 1 :]
        at = name.find(b".", at + 1)


def search_waste(questions: Counter[tuple[bytes, bytes]], total: int, most: int) -> dict[str, Any]:
    """NXDOMAIN that the search list made: the name is another name of the log with a suffix behind it.

    A suffix counts as one of a search list when it stands behind at least two other names, or is that of a namespace
    of a cluster (``*.svc.*``). ``ndots`` says how many queries each value would have saved: those whose base has at least so many dots.
    ``trailing_dot`` are those whose base was answered as it stands.
    """
    missing: Counter[bytes] = Counter()
    known: set[bytes] = set()
    for (name, rcode), n in questions.items():
        lowered = name.lower()
        if rcode == b"NXDOMAIN":
            missing[lowered] += n
        if rcode == b"NOERROR":
            known.add(lowered)
    suffixes: dict[bytes, set[bytes]] = defaultdict(set)
    for name in missing:
        for base, suffix in _splits(name):
            if (base in known or base in missing) and suffix.count(b".") > 1 and len(suffixes[suffix]) < 2:
                suffixes[suffix].add(base)
    listed = {
        s
        for s, bases in suffixes.items()
        if bases and (len(bases) > 1 or s.startswith(b"svc.") or b".svc." in s)
    }
    # `svc.zone.` in a search list means that `zone.` stands there too.
    listed |= {s for s, bases in suffixes.items() if bases and b"svc." + s in listed}
    by_suffix: Counter[bytes] = Counter()
    by_base: Counter[bytes] = Counter()
    dots: Counter[int] = Counter()
    trailing = 0
    for name, n in missing.items():
        # The longest suffix of the list: `a.b.ns.svc.zone.` is `a.b` under `ns.svc.zone`, not `a.b.ns` under `svc.zone`.
        for base, suffix in _splits(name):
            if suffix in listed:
                by_suffix[suffix] += n
                by_base[base] += n
                dots[base.count(b".") - 1] += n
                trailing += n if base in known else 0
                break
    wasted = by_suffix.total()
    return {
        "wasted": wasted,
        "share_of_queries": round(wasted / total, 4) if total else 0.0,
        "share_of_nxdomain": round(wasted / missing.total(), 4) if missing else 0.0,
        "suffixes": [{"suffix": _text(s), "queries": n} for s, n in by_suffix.most_common(most)],
        "names": [{"name": _text(b), "queries": n} for b, n in by_base.most_common(most)],
        "saved_by": {
            "trailing_dot": trailing,
            "ndots": {str(n): sum(c for d, c in dots.items() if d >= n) for n in (1, 2, 3, 4)},
        },
    }
