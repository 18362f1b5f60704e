"""The `broadcast` of the library websockets: what its own documentation says is the quickest way. Prints its port.

Alerts are posted to the same port, which the library hands to `process_request` only without their bodies; so they come to a small
server beside it, whose port is printed first.
"""

from __future__ import annotations

import asyncio
import signal

import websockets.asyncio.server as library
from aiohttp import web


async def serve() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    members: set[library.ServerConnection] = set()

    async def subscribe(connection: library.ServerConnection) -> None:
        if connection.request is not None and connection.request.path != "/other":
            members.add(connection)
        try:
            await connection.wait_closed()
        finally:
            members.discard(connection)

    async def publish(request: web.Request) -> web.Response:
        text = await request.text()
        asyncio.get_running_loop().call_soon(library.broadcast, members, text)
        return web.Response(status=201)

    app = web.Application()
    app.add_routes([web.post("/", publish)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with library.serve(
        subscribe, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4_096
    ) as server:
        print(runner.addresses[0][1], server.sockets[0].getsockname()[1], flush=True)
        await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
