"""Random questions for Cilium's own code and for ``deadhop.fqdn``, area by area, and the smallest that tells them apart."""

from __future__ import annotations

from . import cache, hubble, manager, messages, names, proxy, rules, selectors, zombies
from .cases import Area

__all__ = ["AREAS", "Area"]

FAMILIES = (names, selectors, rules, cache, zombies, proxy, messages, manager, hubble)
AREAS: tuple[Area, ...] = tuple(area for family in FAMILIES for area in family.AREAS)
