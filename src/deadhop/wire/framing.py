"""DNS over TCP: messages with a length of two octets in front (RFC 7766 section 8)."""

from __future__ import annotations


def frame(message: bytes) -> bytes:
    """A message with its length. Raises ``ValueError`` above 65535 octets."""
    if len(message) > 0xFFFF:
        raise ValueError(f"message of {len(message)} octets does not fit a TCP frame")
    return len(message).to_bytes(2, "big") + message


class Framer:
    """Turns pieces of a stream into messages. It holds at most one message and what follows it in a piece."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The messages that the piece completes, in order."""
        self._buffer += piece
        messages: list[bytes] = []
        at = 0
        while len(self._buffer) - at >= 2:
            end = at + 2 + int.from_bytes(self._buffer[at : at + 2], "big")
            if end > len(self._buffer):
                break
            messages.append(bytes(self._buffer[at + 2 : end]))
            at = end
        del self._buffer[:at]
        return messages

    @property
    def pending(self) -> int:
        """Octets of a message that has not ended."""
        return len(self._buffer)
