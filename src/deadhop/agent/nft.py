"""nftables through libnftables (one ctypes call for a whole transaction), or through ``nft`` where it is absent.

A transaction applies as a whole or not at all. libnftables takes the text of ``nft -f`` and the JSON of ``nft -j -f``;
a call costs about half a millisecond where a process costs five, and ctypes lets other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from typing import Any, Protocol

from deadhop.agent.elements import Elements, ElementSocket, text_of

_JSON_OUTPUT = 1 << 4


class NftError(RuntimeError):
    """The kernel or the parser refused a transaction; nothing of it was applied."""


class Nft(Protocol):
    """Runs transactions in the caller's network namespace. One thread at a time."""

    def run(self, text: str) -> None:
        """Apply ``text``. Raises :class:`NftError`."""

    def change(self, commands: Elements) -> None:
        """Add and delete elements in one transaction. Raises :class:`NftError`."""

    def query(self, text: str) -> list[dict[str, Any]]:
        """The objects that a ``list`` command prints. Raises :class:`NftError`."""


class LibNft:
    """libnftables.so.1, and a socket of our own for elements."""

    def __init__(self) -> None:
        """Raises ``OSError`` where the library is not there."""
        self._lib = lib = ctypes.CDLL("libnftables.so.1")
        lib.nft_ctx_new.restype = ctypes.c_void_p
        lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(lib, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(lib, name).restype = ctypes.c_char_p
            getattr(lib, name).argtypes = [ctypes.c_void_p]
        lib.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        self._text = self._context(0)
        self._json = self._context(_JSON_OUTPUT)
        self._elements = ElementSocket()

    def _context(self, flags: int) -> int:
        context = self._lib.nft_ctx_new(0)
        if not context:
            raise OSError("nft_ctx_new failed")
        self._lib.nft_ctx_buffer_output(context)
        self._lib.nft_ctx_buffer_error(context)
        self._lib.nft_ctx_output_set_flags(context, flags)
        return int(context)

    def _run(self, context: int, text: str) -> bytes:
        failed = self._lib.nft_run_cmd_from_buffer(context, text.encode())
        out: bytes = self._lib.nft_ctx_get_output_buffer(context) or b""
        error: bytes = self._lib.nft_ctx_get_error_buffer(context) or b""
        if failed:
            raise NftError(_brief(error.decode(errors="replace")))
        return out

    def run(self, text: str) -> None:
        self._run(self._text, text)

    def change(self, commands: Elements) -> None:
        try:
            self._elements.apply(commands)
        except OSError as error:
            raise NftError(error.strerror or str(error)) from error

    def query(self, text: str) -> list[dict[str, Any]]:
        return _objects(self._run(self._json, text))


class CommandNft:
    """The ``nft`` program."""

    def __init__(self) -> None:
        """Raises ``OSError`` where there is none."""
        found = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")
        if found is None:
            raise OSError("neither libnftables.so.1 nor the nft program is installed (Debian: nftables)")
        self._program = found

    def _run(self, *arguments: str, feed: str = "") -> bytes:
        command = [self._program, *arguments]
        done = subprocess.run(command, input=feed.encode(), capture_output=True, check=False)
        if done.returncode:
            raise NftError(_brief(done.stderr.decode(errors="replace")))
        return done.stdout

    def run(self, text: str) -> None:
        self._run("-f", "-", feed=text)

    def change(self, commands: Elements) -> None:
        self.run(text_of(commands))

    def query(self, text: str) -> list[dict[str, Any]]:
        return _objects(self._run("-j", text))


def open_nft() -> Nft:
    """The library where it is there, else the program. Raises ``OSError``."""
    try:
        return LibNft()
    except OSError:
        return CommandNft()


def _brief(text: str) -> str:
    """The first error of a complaint, without the source line that nft draws below it."""
    return next((line.strip() for line in text.splitlines() if "Error" in line), text.strip()[:300])


def _objects(out: bytes) -> list[dict[str, Any]]:
    if not out.strip():
        return []
    found = json.loads(out).get("nftables", [])
    return [item for item in found if "metainfo" not in item]
