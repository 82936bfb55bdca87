"""Stub resolvers: which queries an application's lookup becomes, and what the application is told.

``resolve`` walks one lookup through a library's own rules against a pure answering function. ``profile`` says how
the libraries differ; ``libc``, ``golang``, ``cares`` and ``kong`` hold what cannot be said in a table.
"""

from __future__ import annotations

from deadhop.hops.resolver.exchange import Answering, Ask, Lookup, Reply, Sent, Told, conf_from_options
from deadhop.hops.resolver.kong import KongState
from deadhop.hops.resolver.profile import C_ARES, GLIBC, GO, JVM, KONG, MUSL, MUSL_1_2_4, PROFILES, Profile
from deadhop.hops.resolver.walk import resolve

__all__ = [
    "C_ARES",
    "GLIBC",
    "GO",
    "JVM",
    "KONG",
    "MUSL",
    "MUSL_1_2_4",
    "PROFILES",
    "Answering",
    "Ask",
    "KongState",
    "Lookup",
    "Profile",
    "Reply",
    "Sent",
    "Told",
    "conf_from_options",
    "resolve",
]
