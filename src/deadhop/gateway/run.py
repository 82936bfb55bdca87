"""The process around a gateway: the loop, its signals, its end."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from deadhop.gateway.config import Config
from deadhop.gateway.server import Gateway


def serve(config: Config) -> int:
    """Until SIGTERM or SIGINT; a second one ends at once. Raises :class:`OSError` where it cannot listen."""
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    gateway = Gateway(config)
    told: asyncio.Future[str] = loop.create_future()
    hurry: asyncio.Future[None] = loop.create_future()

    def end(name: str) -> None:
        if not told.done():
            told.set_result(name)
        elif not hurry.done():
            hurry.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number.name)
    loop.add_signal_handler(signal.SIGHUP, gateway.log.reopen)
    for address in await gateway.start():
        print(f"deadhop gateway: listening on {address}", file=sys.stderr, flush=True)
    name = await told
    print(f"deadhop gateway: {name}: finishing {gateway.active} requests", file=sys.stderr, flush=True)
    drain = loop.create_task(gateway.drain())
    drain.add_done_callback(lambda _: end("drained"))
    await hurry
    left = drain.result() if drain.done() else len(gateway.clients)
    if not drain.done():
        drain.cancel()
        gateway.log.flush()
    print(
        f"deadhop gateway: ended{f', {left} connections were cut' if left else ''}",
        file=sys.stderr,
        flush=True,
    )
    return 0
