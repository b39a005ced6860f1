"""What Triton's clients call beside inference: logging, which works, and tracing and shared memory, which do not.

perf_analyzer and the official examples unregister shared memory before anything else and give up if that fails, so
there is nothing registered here rather than no such endpoint.
"""

from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import BaseRoute

from headrace.errors import InvalidRequest, NoSuchRegion, Unavailable, Unsupported
from headrace.frontends.routes import get, get_and_post, post, read_object, respond
from headrace.telemetry.logs import LogSettings

KINDS = {"system": "/v2/systemsharedmemory", "cuda": "/v2/cudasharedmemory"}


class Extensions:
    """The endpoints."""

    def __init__(self, log_settings: LogSettings) -> None:
        self._log_settings = log_settings

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        routes: list[BaseRoute] = [get_and_post("/v2/logging", self.logging, self.set_logging)]
        routes += [
            get_and_post(path, self.trace, self.trace)
            for path in ("/v2/trace/setting", "/v2/models/{model}/trace/setting")
        ]
        for prefix in KINDS.values():
            routes += [
                get(prefix + "/status", self.no_regions),
                get(prefix + "/region/{region}/status", self.no_such_region),
                post(prefix + "/unregister", self.nothing_to_do),
                post(prefix + "/region/{region}/unregister", self.nothing_to_do),
                post(prefix + "/region/{region}/register", self.register),
            ]
        return routes

    async def logging(self, _: Request) -> StarletteResponse:
        return respond(self._log_settings.json())

    async def set_logging(self, request: Request) -> StarletteResponse:
        self._log_settings.change(await read_object(request))
        return respond(self._log_settings.json())

    async def trace(self, _: Request) -> StarletteResponse:
        raise Unavailable("the server does not support tracing")

    async def no_regions(self, _: Request) -> StarletteResponse:
        return respond([])

    async def no_such_region(self, request: Request) -> StarletteResponse:
        raise NoSuchRegion(kind_of(request), request.path_params["region"])

    async def nothing_to_do(self, _: Request) -> StarletteResponse:
        return StarletteResponse(b"", headers={"content-type": "application/json"})

    async def register(self, request: Request) -> StarletteResponse:
        region = request.path_params["region"]
        if kind_of(request) == "cuda":
            raise InvalidRequest(
                f"failed to register CUDA shared memory region: '{region}', GPUs not supported"
            )
        raise Unsupported(
            f"failed to register shared memory region: '{region}', this server does not offer shared memory: "
            "send tensors in the request"
        )


def kind_of(request: Request) -> str:
    return next(kind for kind, prefix in KINDS.items() if request.url.path.startswith(prefix))
