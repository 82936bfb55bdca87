"""``resolve``: one lookup by the rules of a profile."""

from __future__ import annotations

from deadhop.hops.resolver.cares import cares
from deadhop.hops.resolver.exchange import Answering, Lookup, Session
from deadhop.hops.resolver.golang import golang
from deadhop.hops.resolver.kong import KongState, kong
from deadhop.hops.resolver.libc import glibc, musl
from deadhop.hops.resolver.profile import Profile
from deadhop.model.dns import ResolvConf

_WALKS = {"glibc": glibc, "musl": musl, "go": golang, "c-ares": cares}


def resolve(
    profile: Profile, conf: ResolvConf, name: str, answering: Answering, state: KongState | None = None
) -> tuple[Lookup, KongState]:
    """Every question that a lookup of ``name`` sends and what the application is told.

    ``answering`` gives the reply to one question. The second value is what a Kong client remembers for the next
    lookup; the others remember nothing and hand ``state`` back.
    """
    session = Session(profile, conf, answering)
    if profile.resolver == "kong":
        return kong(session, name, state or KongState())
    return _WALKS[profile.resolver](session, name), state or KongState()
