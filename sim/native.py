"""C++ parts that belong to no one design, compiled once for all and loaded with ctypes."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

CXX_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra")


class NativeError(RuntimeError):
    """There is no C++ compiler, or it refused the sources; the message holds its output."""


@cache
def load(source: str) -> ctypes.CDLL:
    """The library of ``sim/cpp/model/<source>``, compiled if no earlier call has done so; raises `NativeError`.

    It is kept under a hash of everything that goes into it, in the checkout's build/ or, where Penstock is installed,
    in the user's cache folder.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise NativeError(
            f"'{compiler}' is not installed; the cycle model needs a C++ compiler (or CXX that names one)"
        )
    with as_file(files("sim") / "cpp") as folder:
        digest = hashlib.sha256("\0".join([compiler, source, *CXX_FLAGS]).encode())
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".cpp", ".h"):
                digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
        library = _folder() / f"{Path(source).stem}-{digest.hexdigest()[:16]}.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        with (library.parent / ".native.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                aside = library.with_suffix(f".{os.getpid()}.tmp")
                command = [compiler, *CXX_FLAGS, f"-I{folder}", str(folder / "model" / source), "-o", str(aside)]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
                if done.returncode != 0:
                    raise NativeError(f"{compiler} failed ({done.returncode}):\n{done.stdout.strip()}")
                aside.replace(library)
    return ctypes.CDLL(str(library.resolve()))


def _folder() -> Path:
    checkout = Path(__file__).parent.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / "build" / "native"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "penstock"
