"""How checks become a confidence: log-odds that add up, so that every weight can be shown.

``confidence = 1 / (1 + exp(-(prior + sum)))`` where a check that holds adds its weight, one that does not takes
it away, an open one adds nothing. A required check that does not hold refutes the hypothesis whatever the sum;
one that is open keeps it from firing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from deadhop.model.cause import Hypothesis
from deadhop.model.finding import Check

#: A finding at or above FOUND is called found, at or above LIKELY likely; below it is not reported as a finding.
FOUND = 0.85
LIKELY = 0.5
#: No evidence makes a model certain.
CEILING = 0.99


class State(Enum):
    """What became of a hypothesis."""

    FIRES = "fires"
    OPEN = "open"
    REFUTED = "refuted"
    WEAK = "weak"


def confidence(prior: float, checks: Sequence[Check]) -> float:
    """The confidence in 0..1 that a hypothesis with these checks is the cause."""
    odds = prior + sum(c.weight if c.holds else -c.weight for c in checks if c.holds is not None)
    return min(CEILING, 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds)))))


def state(hypothesis: Hypothesis) -> State:
    required = [c for c in hypothesis.checks if c.required]
    if any(c.holds is False for c in required):
        return State.REFUTED
    if any(c.holds is None for c in required):
        return State.OPEN
    return State.FIRES if confidence(hypothesis.prior, hypothesis.checks) >= LIKELY else State.WEAK
