"""`/alerts/{id}/hydrograph.{language}.svg`: the water levels that a warning stands on, as the image that its <resource> names."""

from __future__ import annotations

from aiohttp import hdrs, web

from lalert.errors import NotFound
from lalert.hub import Hub
from lalert.texts import hydrograph
from lalert.web.api import CORS, SANDBOX, nothing_else, take
from lalert.web.request import identify

FOREVER = "public, max-age=31536000, immutable"


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the route."""

    async def image(request: web.Request) -> web.Response:
        nothing_else(take(request)[1])
        audience = identify(request, hub.keyring, hub.clock).audience
        entry = await hub.find(request.match_info["id"], audience)
        language = request.match_info["language"]
        infos = [info for info in entry.alert.infos if info.language.split("-")[0].lower() == language]
        drawn = hydrograph.image(infos[0]) if infos else None
        if drawn is None:
            raise NotFound("this alert has no hydrograph in this language")
        # An alert never changes, so neither does its image. Its words are a stranger's: should one slip through, nothing of it runs.
        caching = FOREVER if audience is None else "private, no-store"
        headers = {**CORS, "Content-Security-Policy": SANDBOX, hdrs.CACHE_CONTROL: caching}
        return web.Response(body=drawn, content_type=hydrograph.MEDIA_TYPE, headers=headers)

    return [web.get("/alerts/{id}/hydrograph.{language:ja|en}.svg", image)]
