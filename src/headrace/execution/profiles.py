"""Measurements kept between starts, by content: what was probed and measured of these bytes on this hardware."""

import contextlib
import fcntl
import hashlib
import os
import platform
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from headrace.errors import LoadFailed
from headrace.execution.linux import usable_cores
from headrace.execution.wire import Load, Profile
from headrace.transforms.kinds import fingerprint

FORMAT = 3
"""Raised when a profile means something else than before."""
CHUNK = 1 << 20
HASH_BYTES = 16
WORTH_A_MEMO = 1 << 20
"""Files below this are hashed faster than it is worth remembering."""
RUNTIMES = {"onnxruntime": "onnxruntime"}


class Measured(msgspec.Struct, tag="measured", frozen=True):
    """Runs of so many rows. `nbytes`: private bytes of the process meanwhile, at most."""

    rows: int
    mean_s: float
    p50_s: float
    p99_s: float
    runs: int
    nbytes: int


class Curve(msgspec.Struct, tag="curve", frozen=True):
    """How fast a model runs by rows, of one instance alone; see curve.py.

    Attributes:
        key: what its profile is kept under.
        cost: elements of a row (Group.cost).
        instances, threads: how a worker runs it.
        points: ascending.
        end: why no more rows were tried.
        is_noisy: the machine was busy with something else.
    """

    key: str
    cost: int
    instances: int
    threads: int
    points: tuple[Measured, ...]
    end: str
    is_noisy: bool = False


class ProfileStore:
    """Files in a folder. A profile that cannot be read or written is one that is not there."""

    def __init__(self, folder: Path | None) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._folder = folder or cache / "headrace" / "profiles"

    def key(self, path: Path, backend: str, options: str) -> str:
        """Hash of the model's bytes and of all else a measurement depends on.

        Raises:
            LoadFailed: the model cannot be read.
        """
        digest = hashlib.blake2b(digest_size=16)
        for file in (path, *external_data(path)):
            digest.update(self._content_hash(file))
        digest.update(f"{FORMAT} {backend} {runtime_version(backend)} {hardware()} {options}".encode())
        return digest.hexdigest()

    def key_of(self, load: Load) -> str:
        """The key of what a worker is to load.

        Raises:
            LoadFailed: the model cannot be read.
        """
        # A new weight or another promise is no reason to measure again.
        options = (
            f"{load.pads} {load.max_batch_size} {load.max_rows} {load.instances} {load.threads} "
            f"{load.config.of_worker} {fingerprint(load.config.steps)}"
        )
        return self.key(Path(load.path), load.backend, options)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One process measures at a time; without a folder to lock, all at once."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self._folder / ".turn").open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _content_hash(self, file: Path) -> bytes:
        """Reading gigabytes takes seconds, so a file that has not changed since is not read again."""
        try:
            status = file.stat()
            stamp = f"{file.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
            memo = self._folder / f"{hashlib.blake2b(stamp.encode(), digest_size=16).hexdigest()}.hash"
            with contextlib.suppress(OSError):
                if len(known := memo.read_bytes()) == HASH_BYTES:
                    return known
            digest = hashlib.blake2b(digest_size=HASH_BYTES)
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
        except OSError as exc:
            raise LoadFailed(f"{file} cannot be read: {exc.strerror}") from exc
        if status.st_size >= WORTH_A_MEMO:
            self._write(memo, digest.digest())
        return digest.digest()

    def read(self, key: str) -> Profile | None:
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Profile)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, key: str, profile: Profile) -> None:
        """Keep a profile for the next start."""
        self._write(self._folder / f"{key}.json", msgspec.json.format(msgspec.json.encode(profile)))

    def read_curve(self, key: str) -> Curve | None:
        """As of `read`."""
        try:
            return msgspec.json.decode((self._folder / f"{key}.curve").read_bytes(), type=Curve)
        except (OSError, msgspec.DecodeError):
            return None

    def write_curve(self, curve: Curve) -> None:
        """Keep it for whoever asks next."""
        self._write(self._folder / f"{curve.key}.curve", msgspec.json.encode(curve))

    def _write(self, path: Path, content: bytes) -> None:
        """Beside it first and then renamed, so that a reader sees all of it or nothing."""
        # Models that share a process are opened on threads of it.
        beside = path.with_name(f".{path.name}.{threading.get_native_id()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def external_data(path: Path) -> list[Path]:
    """Files an ONNX file may keep its weights in, by their usual names; what a model.py may import."""
    if path.suffix == ".py":
        return sorted(each for each in path.parent.rglob("*.py") if each != path and each.is_file())
    return [
        each
        for suffix in (".data", "_data", ".weights")
        if (each := path.with_name(path.name + suffix)).is_file()
    ]


def runtime_version(backend: str) -> str:
    package = RUNTIMES.get(backend)
    try:
        return metadata.version(package) if package else ""
    except metadata.PackageNotFoundError:
        return ""


def hardware() -> str:
    """The processor's model and the cores this process may use."""
    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name} x{usable_cores()}"
