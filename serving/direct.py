"""The short way to the routes of JSON bodies, past the application's own layers."""

import os

from fastapi import FastAPI, Request
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from serving.errors import respond
from serving.middleware import path_of
from serving.routes.route import JsonRoute


class Direct:
    """Answers POST requests of `JsonRoute`s by themselves and leaves all others to the application.

    A body that has been read is in `scope["body"]` (see `middleware.Limits`). What the application
    would do for such a route (match patterns, resolve dependencies, keep exit stacks, watch for
    exceptions in four places) takes longer than everything else the host does for one text. Nor do
    they ask by which scheme a client came to a proxy, which only the others are told.
    """

    def __init__(self, app: FastAPI):
        self.app = app
        trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")  # as uvicorn reads it
        self.others = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]
        self.routes = {
            route.path: route.direct
            for route in app.routes
            if isinstance(route, JsonRoute) and "POST" in (route.methods or ()) and route.direct
        }

    async def __call__(self, scope, receive, send):
        content = scope.get("body")
        route = None if content is None else self.routes.get(path_of(scope))
        if route is None:
            return await self.others(scope, receive, send)
        scope["app"], scope["endpoint"] = self.app, route
        try:
            response = await route(content, Request(scope, receive))
        except Exception as error:
            response = respond(error)
        await response(scope, receive, send)
