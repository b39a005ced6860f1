"""Environments of their own for clients that cannot share one: made once under .conformance/, used again after that."""

import ctypes.util
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".conformance"
KSERVE = ("kserve==0.21.0",)
PERF_ANALYZER = ("tritonclient==2.51.0", "nvidia-cuda-runtime-cu12==12.9.79")
"""The last wheel of tritonclient whose perf_analyzer starts with glibc 2.36, and the CUDA runtime it is linked with."""
BASE64 = "libb64-0d"


def environment(name: str, packages: tuple[str, ...], *options: str) -> Path:
    """The folder of a virtual environment with the packages."""
    folder = FOLDER / name
    ready = folder / "ready"
    wanted = "\n".join(packages)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {', '.join(packages)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *options, *packages], check=True)
        ready.write_text(wanted)
    return folder


def libraries(environment_folder: Path) -> list[Path]:
    """Folders with the shared libraries that perf_analyzer needs."""
    found = list(environment_folder.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib"))
    if ctypes.util.find_library("b64") is None:
        found += base64_library()
    return found


def base64_library() -> list[Path]:
    """Where libb64 lies after taking it out of its Debian package, which needs no root.

    Raises:
        FileNotFoundError: this machine cannot download it.
    """
    folder = FOLDER / BASE64
    if not list(folder.glob("usr/lib/*/libb64.so*")):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", BASE64], cwd=folder, check=True, capture_output=True)
            for package in folder.glob(f"{BASE64}_*.deb"):
                subprocess.run(["dpkg", "-x", package, folder], check=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            raise FileNotFoundError(
                f"perf_analyzer needs {BASE64}: install it with `apt-get install {BASE64}`"
            ) from exc
    return list({file.parent for file in folder.glob("usr/lib/*/libb64.so*")})
