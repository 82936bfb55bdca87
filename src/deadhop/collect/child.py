"""Gathering in a forked child that enters the namespace first: the parent never leaves its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from deadhop.collect.gather import Miss, gather


def gather_in_child(
    folder: Path,
    name: str,
    entering: Callable[[], None],
    *,
    etc: Path = Path("/etc"),
    kernel_log: bool = True,
    kernel_since: float = 0.0,
    files: bool = True,
) -> list[Miss]:
    """As :func:`~deadhop.collect.gather.gather`, in a child for which ``entering`` was called."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if child == 0:
        missing: list[Miss] = []
        status = 0
        try:
            os.close(inlet)
            try:
                entering()
            except OSError as error:
                missing = [("everything", f"the namespace cannot be entered: {error}")]
            else:
                missing = gather(
                    folder, name, etc=etc, kernel_log=kernel_log, kernel_since=kernel_since, files=files
                )
        except BaseException as error:
            missing = [("everything", f"gathering ended early: {error or type(error).__name__}")]
            status = 1
        finally:
            try:
                with os.fdopen(outlet, "wb") as pipe:
                    pipe.write(msgspec.json.encode(missing))
            finally:
                os._exit(status)
    os.close(outlet)
    try:
        with os.fdopen(inlet, "rb") as pipe:
            said = pipe.read()
    except BaseException:  # interrupted: nobody waits for the rest
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        os.waitpid(child, 0)
    try:
        return msgspec.json.decode(said, type=list[Miss])
    except msgspec.DecodeError:
        return [("everything", "the process that gathers ended early")]
