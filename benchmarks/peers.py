"""The servers to compare with, installed from packages into an environment of their own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from ctypes import CDLL
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_LIMIT_S = 600
SHARED = {"numpy", "onnxruntime", "msgspec"}
STUB = "triton_python_backend_stub"


@dataclass
class Peers:
    """What could be installed. `missing`: package → why not."""

    folder: Path
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def triton(self) -> Path:
        """The folder with Triton's binary and backends, inside pytriton."""
        library = sysconfig.get_path("purelib", vars={"base": str(self.folder)})
        return Path(library) / "pytriton" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """As if the environment were activated, with this Python's library where Triton's stub finds it."""
        binaries = f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        library = sysconfig.get_config_var("LIBDIR") or ""
        return {
            **os.environ,
            "PATH": binaries,
            "VIRTUAL_ENV": str(self.folder),
            "LD_LIBRARY_PATH": library,
            "PYTHONWARNINGS": "ignore",
        }


def install(folder: Path) -> Peers:
    """Install each peer by itself: one that cannot be had does not cost the others."""
    peers = Peers(folder)
    lines = (HERE / "peers.txt").read_text().splitlines()
    wanted = {line.partition("==")[0]: line for line in lines if line and not line.startswith("#")}
    ready = folder / "ready"
    if not (ready.exists() and ready.read_text() == "\n".join(wanted.values())):
        venv.create(folder, with_pip=True, clear=True)
        shared = [wanted[name] for name in wanted if name in SHARED]
        for name in [each for each in wanted if each not in SHARED]:
            if reason := pip(peers.python, [*shared, wanted[name]]):
                peers.missing[name] = reason
        if not peers.missing:
            ready.write_text("\n".join(wanted.values()))
    if "nvidia-pytriton" not in peers.missing and (reason := prepare_triton(peers.triton)):
        peers.missing["nvidia-pytriton"] = reason
    return peers


def pip(python: Path, packages: list[str]) -> str | None:
    """Why the packages cannot be installed, or None."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{packages[-1]} could not be installed: {exc}"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or ["pip says nothing"])[-1]
    return f"{packages[-1]} could not be installed: {last[-300:]}"


def prepare_triton(server: Path) -> str | None:
    """Put the stub for this Python where the backend looks for it; why that cannot work, or None."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / STUB
    if not stub.is_file():
        return f"Triton's Python backend has no stub for Python {version}"
    library = f"libpython{version}.so.1.0"
    if not (Path(sysconfig.get_config_var("LIBDIR") or ".") / library).is_file():
        try:
            CDLL(library)  # where the system's loader looks for it
        except OSError:
            return f"Triton's Python backend needs {library}, which is not installed"
    target = server / "backends" / "python" / STUB
    if not target.exists():
        shutil.copy2(stub, target)
    for binary in (target, server / "bin" / "tritonserver"):
        binary.chmod(0o755)
    return None
