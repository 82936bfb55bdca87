"""What an optional extra brings: asked for before a command uses it, with the line that installs it."""

from __future__ import annotations

from importlib.util import find_spec

import click


def needs(module: str, extra: str) -> None:
    """Raises a usage error where ``module`` is not installed."""
    if find_spec(module) is None:
        raise click.UsageError(f"this needs the extra {extra!r}: pip install 'deadhop[{extra}]'")
