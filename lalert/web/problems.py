"""Every error as `application/problem+json` (RFC 9457): `type, title, status, detail, code`, and `problems` for an invalid alert."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from http import HTTPStatus

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from lalert.errors import InvalidAlert, LalertError, NotXml, Problem, ProblemSeverity, Unavailable

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HtmlError = Callable[[web.Request, int, str], web.StreamResponse | None]

MEDIA_TYPE = "application/problem+json"
NEVER_ECHOED = {"access-control-allow-origin": "*"}


def answer(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: object
) -> web.Response:
    """Return a problem document. `type` names the code; docs/errors.md explains each."""
    body = {
        "type": f"urn:lalert:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # What is quoted from a header that was no UTF-8 holds lone surrogates, which JSON cannot.
        "detail": detail.encode(errors="replace").decode(),
        "code": code,
        **more,
    }
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type=MEDIA_TYPE,
        headers=NEVER_ECHOED | (headers or {}),
    )


def from_error(error: LalertError) -> web.Response:
    """Return the answer to an error of ours."""
    headers: dict[str, str] = {}
    more: dict[str, object] = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="lalert"'
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, NotXml):
        more["line"] = error.line
    if problems := shown_problems(error):
        more["problems"] = [problem.members() for problem in problems]
    return answer(error.status, error.error_code, error.detail, headers, **more)


def shown_problems(error: LalertError) -> list[Problem]:
    """Return what was found in a document that is refused, the gravest first."""
    if isinstance(error, InvalidAlert):
        return [_unmended(problem) for problem in _gravest_first(error.problems)]
    return [error.problem] if isinstance(error, NotXml) and error.problem is not None else []


def middleware(html: HtmlError) -> Middleware:
    """Return the middleware that turns what handlers raise into answers; `html` may make a page of it for a person's browser."""

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except LalertError as error:
            if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Unavailable):
                log.error("request failed", path=request.path, code=error.error_code, detail=error.detail)
            return _page(html, request, error.status, error.detail) or from_error(error)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return _page(html, request, error.status, error.reason) or _from_http(request, error)
        except Exception:
            # The whole request: what went wrong is ours to find in the log, never the caller's to read.
            log.exception("request failed", path=request.path)
            detail = "the hub made a mistake; it is in the hub's log"
            return _page(html, request, 500, detail) or answer(500, "internal", detail)

    return problems


def _from_http(request: web.Request, error: web.HTTPException) -> web.Response:
    allow = error.headers.get("Allow")
    details = {
        404: ("not-found", f"there is nothing at {request.path[:200]}; /openapi.yaml lists every address"),
        405: ("method-not-allowed", f"{request.method} is not possible here; possible: {allow}"),
        413: ("too-large", "the body is larger than this address takes"),
    }
    code, detail = details.get(error.status, ("bad-request", error.reason))
    return answer(error.status, code, detail, {"Allow": allow} if allow else None)


def _page(html: HtmlError, request: web.Request, status: int, detail: str) -> web.StreamResponse | None:
    if request.path.startswith(("/v1/", "/feeds/")) or request.method not in ("GET", "HEAD"):
        return None
    return html(request, status, detail)


def _unmended(problem: Problem) -> Problem:
    """Return a finding without its repair: nothing was made of what was refused."""
    return replace(problem, repair="", repair_ja="")


def _gravest_first(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: list(ProblemSeverity).index(problem.severity))
