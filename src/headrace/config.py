"""The settings, as one frozen tree. The command line's options are made from these fields."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headrace.byte_sizes import byte_size

MIB = 1 << 20
DIGEST = "sha256:"
"""What a key begins with that is given by its digest."""
HEX_DIGEST = re.compile(r"sha256:[0-9a-fA-F]{64}")
KEY = re.compile(r"[!-~]{1,512}")
"""What a header can carry as a key."""
TENANT_NAME = r"^[!-~](?:[ -~]{0,62}[!-~])?$"
"""What may be a label and stand in a log: printable ASCII."""


def hidden_key(key: str) -> str:
    """The digest in place of an API key, so that no setting holds one.

    Raises:
        ValueError: it is neither; the sentence does not repeat it.
    """
    if key.startswith(DIGEST):
        if not HEX_DIGEST.fullmatch(key):
            raise ValueError("should be sha256: and 64 hex digits, as sha256sum gives them")
        return key.lower()
    if not KEY.fullmatch(key):
        raise ValueError(
            "should be 1 to 512 visible ASCII characters without spaces, or sha256: and its digest"
        )
    return DIGEST + sha256(key.encode()).hexdigest()


class Tenant(BaseModel):
    """Somebody whose requests share the device with others'."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its part of the device time of a model that all want, in relation to the others' weights."""

    keys: tuple[Annotated[str, AfterValidator(hidden_key)], ...] = ()
    """API keys that are its own, or `sha256:` and the hex digest of one; digests are what is kept."""


class Settings(BaseModel):
    """Everything that can be set, with its default, unit and reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; loopback unless somebody decides otherwise."""

    http_port: int = Field(default=8000, ge=0, le=65535)
    """Port for the protocol, health and metrics; 0 takes a free one."""

    server_id: str = "headrace"
    """Name in the server metadata; some clients expect `triton`."""

    model_name: str | None = Field(default=None, min_length=1)
    """Name to serve the only model under, where its files do not say it; KServe passes its service's."""

    deadline_s: float = Field(default=5.0, gt=0)
    """Seconds after which a request that still waits is answered with an error, unless it asks for less."""

    max_queue_bytes: int = Field(default=256 * MIB, gt=0)
    """Bytes of tensors that may wait for one model; what comes on top is refused."""

    max_batch_size: int = Field(default=1024, ge=1)
    """Rows one request may bring."""

    max_rows: int = Field(default=64, ge=1)
    """Rows of different requests that may share a run; what is worth it is measured below that."""

    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Model → its part of the device beside other models, in relation to theirs; 1 where nothing is said."""

    tenants: dict[Annotated[str, Field(pattern=TENANT_NAME)], Tenant] = {}
    """Tenant → its weight and keys, from the file of --tenants; whoever is not in it has weight 1."""

    tenant_header: str = Field(default="x-tenant", pattern="^[A-Za-z0-9-]+$")
    """Header that names the tenant of a request without an API key that --tenants lists."""

    refuse_with: Literal[503, 429] = 503
    """Status of requests refused because too much waits; some balancers retry the one and not the other."""

    max_loop_lag_s: float = Field(default=0.05, gt=0)
    """Seconds the gateway may be late, five times in a row, before it refuses requests unseen."""

    instances: int | None = Field(default=None, ge=1)
    """Sessions a model runs at once; measured at load if not set."""

    threads: int | None = Field(default=None, ge=1)
    """Threads a session computes with; measured at load if not set."""

    pads: dict[str, dict[str, float]] = {}
    """Model → input → value: lengths of these inputs may be padded with the value (used if a run confirms it)."""

    http_max_input_size: int = Field(default=64 * MIB, gt=0)
    """Bytes of JSON, or of a raw binary request; as in Triton, binary tensors do not count."""

    max_request_bytes: int = Field(default=256 * MIB, gt=0)
    """Bytes of a whole request body."""

    compress_from_bytes: int = Field(default=1024, ge=0)
    """Infer answers of so many bytes are compressed for whoever asks for it; shorter ones hardly shrink."""

    max_received_bytes: int = Field(default=1024 * MIB, gt=0)
    """Bytes of all request bodies that are being received or waiting; what comes on top is refused."""

    max_stale_bytes: int = Field(default=64 * MIB, ge=0)
    """Bytes of answers that are kept for skills whose fallback has a stale step; who was not asked longest goes first."""

    receive_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds in which a request must have arrived completely."""

    keep_alive_s: float = Field(default=75.0, gt=0)
    """Seconds an idle connection stays open; longer than load balancers keep theirs (60 or 65 s)."""

    drain_delay_s: float = Field(default=5.0, ge=0)
    """After SIGTERM: seconds to go on accepting while load balancers notice that readiness is gone."""

    exit_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds for requests in flight to finish before the server stops all the same."""

    strict_readiness: bool = False
    """Ready only while every model is; else as soon as each has been ready once or has failed."""

    watch: bool = True
    """Look at the paths again and again, and load, swap or unload what changed there."""

    watch_s: float = Field(default=2.0, gt=0)
    """Seconds between two looks; what changed is loaded when it is the same in two of them."""

    load_api: bool = True
    """Let clients load and unload models and force breakers; they can send configurations and weights, never code."""

    wait_for_models_s: float = Field(default=0.0, ge=0)
    """Seconds to wait for paths that are not there yet, unready meanwhile; a link whose target comes later has no limit."""

    hang_floor_s: float = Field(default=2.0, gt=0)
    """A run that takes 10 times its usual upper bound hangs, but not before this; nor before 5 times this where no run is known."""

    load_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds a model may take to load."""

    explained_requests: int = Field(default=4096, ge=0)
    """Last requests with an id of which is kept what became of them, for `headrace explain`; 0 keeps nothing."""

    memory_budget: Annotated[int, Field(gt=0), BeforeValidator(byte_size)] | None = None
    """Memory that all models may take together, as in 600MiB or 4GiB; what the machine or its control group has, less a
    reserve and what others take, if not set or if that is less."""

    idle_timeout_s: float | None = Field(default=None, gt=0)
    """Seconds without a request after which a model that is not pinned leaves memory; never if not set."""

    pin: frozenset[str] = frozenset()
    """Model that is loaded at start and never leaves memory for others; repeat for each."""

    preload: frozenset[str] = frozenset()
    """Model that is loaded at start before others; repeat for each. All that fit are, if nothing is said."""

    sessions_per_worker: int = Field(default=1, ge=1)
    """Small models that may share a worker process; one that ends it ends it for all of them."""

    measure_memory: bool = True
    """Find out in quiet moments, in a process of its own, what a model takes of which that is not known yet."""

    profile_dir: Path | None = None
    """Where measurements are kept between starts; ~/.cache/headrace/profiles if not set."""

    log_json: bool = False
    """Logs as JSON lines instead of for people."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least level that is logged."""

    @model_validator(mode="after")
    def _check_keys(self) -> "Settings":
        owners: dict[str, str] = {}
        for name, tenant in self.tenants.items():
            for key in tenant.keys:
                if owners.setdefault(key, name) != name:
                    raise ValueError(f"tenants {owners[key]} and {name} have the same key: give each its own")
        return self
