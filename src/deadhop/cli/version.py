"""``deadhop version``."""

from __future__ import annotations

import platform

import click

from deadhop import __version__


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(
        f"deadhop {__version__} (Python {platform.python_version()}, {platform.system()} {platform.release()})"
    )
