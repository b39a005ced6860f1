"""The only builder of objects: startup, run, drain, stop."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
import uvicorn

from headrace.config import Settings
from headrace.errors import ConfigurationError
from headrace.events import Event, FilesChanged, Observer
from headrace.execution.linux import allow_open_files, usable_cores
from headrace.execution.worker_groups import WorkerGroups, find_groups
from headrace.frontends.asgi import CountingBodies
from headrace.frontends.desk import Desk
from headrace.frontends.http import LeanProtocol, sweep
from headrace.frontends.rest import make_app
from headrace.lifecycle.catalog import Catalog
from headrace.lifecycle.foreseen import refuse_impossible
from headrace.lifecycle.machine_budget import budget_reader
from headrace.lifecycle.state import VersionState
from headrace.lifecycle.version import ModelVersion
from headrace.lifecycle.watcher import Watcher, first_scan
from headrace.pipeline import Pipeline
from headrace.protocol import transcode
from headrace.repository.find import refuse_unknown
from headrace.repository.source import Source
from headrace.telemetry.logs import LogObserver, LogSettings
from headrace.telemetry.metrics import Held, Metrics
from headrace.telemetry.statistics import Statistics

TICK_S = 0.5
DRAIN_POLL_S = 0.02

log = structlog.get_logger()


class HttpServer(uvicorn.Server):
    """uvicorn's server, without its hands on the signals: draining takes more than it knows of."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Server:
    """One gateway. `run` blocks; `serve` is the same inside a running loop."""

    def __init__(
        self, settings: Settings, paths: Sequence[Path], log_settings: LogSettings | None = None
    ) -> None:
        """Look at the paths. `log_settings`: what logs.set_up gave, to be changed while serving.

        Raises:
            ConfigurationError: nothing there can be served.
        """
        self.settings = settings
        self._log_settings = log_settings or LogSettings(settings.log_level)
        self._paths = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - symlinks are names
        self._seen = first_scan(self._paths, settings)
        if not self._seen.missing:
            refuse_unknown(settings, {name for name, _ in self._seen.found})
        self.address: tuple[str, int] | None = None
        self.is_started = asyncio.Event()
        self._observers: list[Observer] = []
        self._transcoding: ModelVersion | None = None
        self._signals = 0
        self._stop_requested = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._wait_for_balancers = False
        self._gave_up: ConfigurationError | None = None

    def run(self) -> None:
        """Serve until told to stop by a signal."""
        import uvloop  # noqa: PLC0415 - tests run on asyncio's own loop

        uvloop.run(self.serve())

    async def serve(self) -> None:
        """Start, run, drain, stop.

        Raises:
            ConfigurationError: the address cannot be used, the models to wait for did not come, or what is to stay in memory
                cannot fit.
        """
        allow_open_files()
        self._refuse_impossible()
        with contextlib.closing(find_groups()) as groups:
            await self._serve(groups)

    async def _serve(self, groups: WorkerGroups) -> None:
        self.catalog = Catalog(self.settings, time.perf_counter, self._report, groups=groups)
        statistics = Statistics(time.time)
        metrics = Metrics(
            self._waiting,
            statistics,
            lambda: self.desk.lag.lag_s,
            self.settings.tenants,
            self.catalog.residency.view,
        )
        self._observers = [metrics, statistics, LogObserver()]
        listener = self._listen()
        self.watcher = Watcher(self._paths, self.settings, self.catalog, self._seen, self._give_up)
        self.catalog.start(self._seen.found.values())
        call_soon = asyncio.get_running_loop().call_soon
        self.desk = desk = Desk(
            self.catalog, self.settings, time.perf_counter, self._transcoder, self._report, call_soon
        )
        self._observers.append(desk.lobby)
        http = HttpServer(self._http_config(desk, metrics, statistics))
        with self._signals_handled():
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(http.serve([listener]))
                ticking = tasks.create_task(self._tick(http))
                watching = tasks.create_task(self.watcher.run())
                # What is alive now stays: the collector need not look at it again and again.
                gc.collect()
                gc.freeze()
                gc.set_threshold(50_000, 20, 50)
                await http.is_listening.wait()
                assert self.address is not None, "it listens"
                host, port = self.address
                log.info("server_listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
                self.is_started.set()
                await self._stop_requested.wait()
                watching.cancel()
                await self._drain(http)
                await serving
                ticking.cancel()
        await self._stop_workers()
        if self._gave_up is not None:
            raise self._gave_up

    def request_stop(self, *, wait_for_balancers: bool = False) -> None:
        """Drain and stop; asked again, stop at once."""
        self._signals += 1
        if self._signals > 1:
            self._stop_now.set()
        self._wait_for_balancers = wait_for_balancers
        self._stop_requested.set()

    def _refuse_impossible(self) -> None:
        budget = budget_reader(self.settings, time.perf_counter)(0)
        sources = [found.source for found in self._seen.found.values()]
        refuse_impossible(self.settings, sources, budget, usable_cores())

    def _listen(self) -> socket.socket:
        settings = self.settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Head and body may be two writes: without this the second waits for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((settings.host, settings.http_port))
        except OSError as exc:
            listener.close()
            raise ConfigurationError(
                f"cannot listen on {settings.host}:{settings.http_port}: {exc.strerror}; "
                "choose another with --host and --http-port"
            ) from exc
        self.address = listener.getsockname()[:2]
        return listener

    def _http_config(self, desk: Desk, metrics: Metrics, statistics: Statistics) -> uvicorn.Config:
        self.app = make_app(desk, metrics.exposition, statistics.json, self._log_settings, self.watcher)
        return uvicorn.Config(
            CountingBodies(self.app, desk),
            http=functools.partial(LeanProtocol, desk=desk),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=4096,
            timeout_keep_alive=int(self.settings.keep_alive_s),
        )

    async def _tick(self, http: uvicorn.Server) -> None:
        """What has to be looked at every now and then: slow senders, idle connections, hanging workers."""
        while True:
            await asyncio.sleep(TICK_S)
            sweep(http.server_state.connections, time.perf_counter())
            self.catalog.watch()
            if self._transcoding is not None:
                self._transcoding.watch()

    async def _drain(self, http: uvicorn.Server) -> None:
        """Readiness goes first, then the listener, then what is in flight, or the time for it."""
        self.catalog.is_exiting = True
        settings = self.settings
        log.info("server_draining", delay_s=settings.drain_delay_s if self._wait_for_balancers else 0.0)
        if self._wait_for_balancers:
            await self._sleep_unless_told(settings.drain_delay_s)
        http.should_exit = True
        ends = time.perf_counter() + settings.exit_timeout_s
        while time.perf_counter() < ends and not self._stop_now.is_set():
            # A task may be there without its connection: its client has gone, and it does not know.
            if self.catalog.is_idle and not http.server_state.connections and not http.server_state.tasks:
                return
            await asyncio.sleep(DRAIN_POLL_S)
        http.force_exit = True
        for connection in list(http.server_state.connections):
            connection.transport.abort()

    async def _sleep_unless_told(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_now.wait()

    async def _stop_workers(self) -> None:
        transcoding = self._transcoding
        if transcoding is not None:
            transcoding.stop()
            transcoding.kill()
        await self.catalog.stop()
        while transcoding is not None and transcoding.has_processes:
            await asyncio.sleep(DRAIN_POLL_S)
        log.info("server_stopped")

    def _transcoder(self) -> Pipeline:
        """Started by the first large JSON body; most servers never see one."""
        if self._transcoding is None or self._transcoding.state is VersionState.UNAVAILABLE:
            source = Source(transcode.NAME, "1", Path("/dev/null"), "transcoder")
            self._transcoding = ModelVersion(
                source, self.settings, time.perf_counter, self._report, workers=self.catalog.workers
            )
            self._transcoding.start()
        return self._transcoding.pipeline

    def _give_up(self, error: ConfigurationError) -> None:
        self._gave_up = error
        self.request_stop()

    def _report(self, event: Event) -> None:
        if isinstance(event, FilesChanged):
            self.watcher.look_again((event.model, event.version))
        for observer in self._observers:
            observer(event)

    def _waiting(self) -> Iterator[Held]:
        for version in self.catalog:
            source, stages = version.source, [version.pipeline.snapshot()]
            if version.transforms is not None:
                stages.append(version.transforms.pipeline.snapshot())
            breaker = version.pipeline.breaker
            yield (
                source.name,
                source.version,
                None if breaker is None else breaker.state(time.perf_counter()).value,
                sum(each.waiting for each in stages),
                sum(each.waiting_bytes for each in stages),
                version.state is VersionState.READY,
                source.config.latency_p99_s,
            )

    @contextlib.contextmanager
    def _signals_handled(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: functools.partial(self.request_stop, wait_for_balancers=True),
            signal.SIGINT: self.request_stop,
        }
        try:
            for number, handler in handlers.items():
                loop.add_signal_handler(number, handler)
        except (
            RuntimeError,
            ValueError,
        ):  # not the main thread: whoever runs us there stops us by request_stop
            handlers = {}
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
