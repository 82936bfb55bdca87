"""Bytes to records: detection, archives, transcripts, and one reader per format in ``formats/``.

``read(paths)`` is the way in. Documents are opened here and nowhere else below ``collect/``; every reader is
total: what it cannot read becomes a :class:`~deadhop.model.record.Problem` with its place.
"""

from deadhop.evidence.read import Evidence, NoEvidence, read, read_bytes

__all__ = ["Evidence", "NoEvidence", "read", "read_bytes"]
