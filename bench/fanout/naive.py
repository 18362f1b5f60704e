"""An aiohttp server as one writes it first: one encoding, and an awaited send for each subscriber. Prints its port."""

from __future__ import annotations

import asyncio
import signal

from aiohttp import web


async def serve() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sockets: dict[web.WebSocketResponse, None] = {}
    streams: dict[web.StreamResponse, None] = {}
    told: asyncio.Queue[str] = asyncio.Queue()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if not request.query_string:
            streams[response] = None
        await asyncio.Event().wait()
        return response

    async def websocket(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        if not request.query_string:
            sockets[response] = None
        await response.receive()
        return response

    async def publish(request: web.Request) -> web.Response:
        told.put_nowait(await request.text())
        return web.Response(status=201)

    async def fan_out() -> None:
        while True:
            text = await told.get()
            for one in sockets:
                await one.send_str(text)
            event = f"event: alert\ndata: {text}\n\n".encode()
            for each in streams:
                await each.write(event)

    app = web.Application()
    app.add_routes([web.get("/stream", stream), web.get("/ws", websocket), web.post("/", publish)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096).start()
    fanning = asyncio.create_task(fan_out())
    print(runner.addresses[0][1], flush=True)
    await stop.wait()
    fanning.cancel()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
