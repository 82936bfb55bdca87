"""A click group whose subcommands live in modules of their own, imported when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """``places`` are the subcommands' ``module:attribute`` below ``deadhop.cli``, in the order of ``--help``.

    ``lines`` are their one-line helps, where listing them is not worth importing them all; without, click asks each.
    """

    def __init__(
        self, *args: Any, places: Mapping[str, str], lines: Mapping[str, str] | None = None, **rest: Any
    ) -> None:
        super().__init__(*args, **rest)
        self.places = places
        self.lines = lines

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name].partition(":")
        loaded = getattr(import_module(f"deadhop.cli.{module}"), attribute)
        assert isinstance(loaded, click.Command)
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.lines is None:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines.items()))
