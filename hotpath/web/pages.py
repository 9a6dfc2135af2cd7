"""The page: one document and its files, read from the package once, each with its ETag and packed by gzip.

All files are served below `/static/VERSION/`, where VERSION is a hash of them all: a browser keeps them for
ever, and a new release is a new address. The document itself is asked for each time and names the version.
Nothing is looked up on disk for a request, so no path can lead out of the package.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

PATHS = (
    "/",
    "/jobs",
    "/jobs/{id}",
    "/flows",
    "/flows/{name:path}",
    "/runs/{id}",
    "/scripts",
    "/scripts/{name:path}",
    "/schedules",
    "/schedules/{name}",
    "/workers",
    "/groups",
    "/groups/{name}",
    "/history",
    "/alerts",
    "/retention",
    "/doctor",
)
"""Addresses within the page: the browser knows what to show there."""

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "md": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"  # keep it, and ask each time whether it is still the one
_SMALL = 512  # bytes below which gzip gains nothing


@attrs.frozen
class Asset:
    """One file, ready to be sent."""

    body: bytes
    packed: bytes | None
    """The same by gzip; None where that is no shorter."""
    etag: str
    type: str


def make_asset(body: bytes, suffix: str) -> Asset:
    """What is sent for a file with this content and this end of its name."""
    packed = gzip.compress(body, 9, mtime=0) if len(body) >= _SMALL else b""
    return Asset(
        body=body,
        packed=packed if 0 < len(packed) < len(body) else None,
        etag=hashlib.sha256(body).hexdigest()[:32],
        type=_TYPES[suffix],
    )


class Page:
    """The document and all its files, in memory."""

    def __init__(self) -> None:
        found = dict(_files(files("hotpath.web") / "static", ""))
        digest = hashlib.sha256()
        for name in sorted(found):
            digest.update(f"{name}\0{len(found[name])}\0".encode() + found[name])
        self.version = digest.hexdigest()[:12]
        document = found.pop("index.html").replace(b"{{static}}", f"/static/{self.version}".encode())
        self.document = make_asset(document, "html")
        self.assets = {name: make_asset(body, name.rpartition(".")[2]) for name, body in found.items()}
        self._preload = ", ".join(
            f"</static/{self.version}/{name}>; rel=modulepreload"
            for name in sorted(self.assets)
            if name == "vendor/preact.js" or (name.startswith("app/") and name != "app/theme.js")
        )

    def document_for(self, request: Request) -> Response:
        """The document, whatever the address within the page, with word of the modules it will want: they are
        asked for at once, and not as each is found to be imported by another.
        """
        response = send(request, self.document, _ASK)
        response.headers["link"] = self._preload
        return response

    def file_for(self, request: Request) -> Response:
        """One file: for ever under this version, else (an older document asks) for now."""
        path = request.path_params["path"]
        version, _, name = path.partition("/")
        asset = self.assets.get(name) if version == self.version else None
        if asset is not None:
            return send(request, asset, _FOR_EVER)
        asset = self.assets.get(path) or self.assets.get(name)
        if asset is None:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        return send(request, asset, _ASK)


def send(request: Request, asset: Asset, caching: str) -> Response:
    """The asset as this request wants it: packed or not, or only word that it is unchanged."""
    body, tag = asset.body, f'"{asset.etag}"'
    headers = {"cache-control": caching, "vary": "accept-encoding"}
    if asset.packed is not None and takes_gzip(request.headers.get("accept-encoding", "")):
        body, tag = asset.packed, f'"{asset.etag}-gzip"'
        headers["content-encoding"] = "gzip"
    headers["etag"] = tag
    if knows(request.headers.get("if-none-match", ""), tag):
        headers.pop("content-encoding", None)
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        headers["content-length"] = str(len(body))
        body = b""
    return Response(body, headers=headers, media_type=asset.type)


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header lets us send gzip."""
    weights: dict[str, float] = {}
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        try:
            weights[name.strip()] = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def knows(known: str, tag: str) -> bool:
    """Whether an If-None-Match header names this tag."""
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in known.split(","))


def routes() -> list[BaseRoute]:
    """The document at every address within the page, its files, and what browsers ask for unasked."""
    page = Page()

    async def document(request: Request) -> Response:
        return page.document_for(request)

    async def file(request: Request) -> Response:
        return page.file_for(request)

    async def icon(request: Request) -> Response:
        return send(request, page.assets["icon.svg"], _ASK)

    return [
        *(Route(path, document) for path in PATHS),
        Route("/static/{path:path}", file),
        Route("/favicon.ico", icon),
    ]


def _files(directory: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in directory.iterdir():
        name = f"{prefix}{each.name}"
        if each.is_dir():
            yield from _files(each, f"{name}/")
        elif each.name.rpartition(".")[2] in _TYPES:
            yield name, each.read_bytes()
