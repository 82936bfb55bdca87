"""Log messages of known programs, read by the catalogue in ``evidence/formats/messages``."""

from __future__ import annotations

from deadhop.model.record import Record


class Message(Record, frozen=True, kw_only=True):
    """A line that a known program writes in a known situation.

    ``kind`` names the situation (``nf-conntrack-table-full``), ``emitter`` the program; ``fields`` are the parts
    of the line that carry meaning.
    """

    emitter: str
    kind: str
    fields: tuple[tuple[str, str], ...] = ()
    text: str = ""

    def field(self, name: str) -> str:
        return next((v for k, v in self.fields if k == name), "")
