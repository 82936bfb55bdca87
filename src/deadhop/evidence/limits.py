"""How much hostile input may cost. One place for every bound, so that a report can name the one that was hit."""

from __future__ import annotations

#: Bytes of one document that are decoded at once; a longer text is read in pieces of this size.
CHUNK = 32 << 20
#: Bytes of one JSON or YAML document, and of one binary document, read as a whole.
WHOLE = 256 << 20
#: Characters of one line that readers see; the rest of the line is left out.
LINE = 1 << 20
#: Members of one archive, archives within archives, bytes unpacked from one top-level archive.
MEMBERS = 20_000
DEPTH = 3
UNPACKED = 2 << 30
#: A member that unpacks to more than RATIO times its packed size, above FREE bytes, is refused.
RATIO = 250
FREE = 8 << 20
#: YAML: aliases in one document, nodes when they are written out, bytes of one YAML document.
ALIASES = 200
NODES = 2_000_000
YAML = 64 << 20
#: Files in a folder.
FILES = 50_000
#: Records of one type from one document; further ones are counted and left out.
RECORDS = 400_000
#: Bytes of a text that are kept so that a report can quote its lines.
QUOTABLE = 4 << 20
