"""Push services: the browsers' own servers, and which addresses of theirs are called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from lalert.errors import BadRequest

MAX_URL: Final = 2_048
SERVICES: Final = (
    "fcm.googleapis.com",
    "*.push.services.mozilla.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
"""Those of Chrome and most that are made from it, Firefox, Safari, and Edge. Whoever may name any address makes the hub call any address for every alert."""


def check_endpoint(endpoint: str, services: Iterable[str], *, allow_http: bool) -> None:
    """Raise `BadRequest` unless an address is one of a push service that is called; where it leads is checked when the hub connects."""
    if (
        not 0 < len(endpoint) <= MAX_URL
        or not endpoint.isascii()
        or not endpoint.isprintable()
        or " " in endpoint
    ):
        raise BadRequest(f"target: must be a URL of at most {MAX_URL} printable ASCII characters")
    try:
        url = urlsplit(endpoint)
        port = url.port
        URL(endpoint, encoded=True)
    except ValueError:
        raise BadRequest("target: is not a URL") from None
    if url.scheme not in ({"https", "http"} if allow_http else {"https"}):
        raise BadRequest("target: must begin with https://")
    if not url.hostname or port == 0 or "@" in url.netloc or "#" in endpoint:
        raise BadRequest("target: must name a host, and hold no user name, password or fragment")
    if not any(_covers(service, url.hostname) for service in services):
        raise BadRequest(
            "target: is not at a push service that this hub calls; an operator may add its host to `services`"
        )


def audience(endpoint: str) -> str:
    """Return the origin of a push service, as a signature names it (RFC 8292, 2)."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.lower()}"


def _covers(service: str, host: str) -> bool:
    if service == "*":
        return True
    return host.endswith(service[1:]) if service.startswith("*.") else host == service
