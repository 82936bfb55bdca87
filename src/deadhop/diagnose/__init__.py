"""Symptoms, hypotheses, ranking, fixes with proof, the next command. Knows no single cause."""

from deadhop.diagnose.engine import diagnose

__all__ = ["diagnose"]
