"""What the environment is made of: a lock with hashes, licences, a bill of materials, and whether it is what it says.

    python bench/supply.py --lock REPORT     write requirements.lock from what `pip install --dry-run --report` says
    python bench/supply.py --write           write docs/dependencies.md and docs/results/sbom.json from the environment
    python bench/supply.py [--json FILE]     check the environment against the lock, file by file (make lock-check)

`make lock` and `make lock-check` call this. The hash of a wheel is checked by pip when it installs
(`make setup LOCKED=1`); what lies in the environment afterwards is compared with each wheel's own list of hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from bench.table import Report, parser

ROOT = Path(__file__).parents[1]
LOCK, PAGE, BILL = (
    ROOT / "requirements.lock",
    ROOT / "docs" / "dependencies.md",
    ROOT / "docs" / "results" / "sbom.json",
)
INSTALLERS = {"pip", "setuptools", "wheel", "penstock"}  # may differ: they are there before the lock is read


class _Archive(BaseModel):
    hashes: dict[str, str]


class _Download(BaseModel):
    archive_info: _Archive


class _Metadata(BaseModel):
    name: str
    version: str


class _Install(BaseModel):
    metadata: _Metadata
    download_info: _Download


class _Resolved(BaseModel):
    install: list[_Install]


@dataclass(frozen=True)
class Locked:
    """A wheel: name and version of its distribution, and its SHA-256."""

    name: str
    version: str
    sha256: str


def lock(report: Path) -> str:
    """The text of requirements.lock for what pip has resolved."""
    entries = sorted(_Resolved.model_validate_json(report.read_bytes()).install, key=lambda x: _plain(x.metadata.name))
    text = (
        "# The wheels that were tested together (Python 3.11, Linux x86-64), for pip --require-hashes; by make lock.\n"
    )
    for entry in entries:
        sha = entry.download_info.archive_info.hashes["sha256"]
        text += f"{entry.metadata.name}=={entry.metadata.version} --hash=sha256:{sha}\n"
    return text


def locked(text: str) -> list[Locked]:
    """The wheels in a lock; ValueError for a line without version or hash."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})", line)
            if match is None:
                raise ValueError(f"requirements.lock: '{line}'; accepted: NAME==VERSION --hash=sha256:HEX")
            found.append(Locked(*match.groups()))
    return found


def licence(distribution: Distribution) -> str:
    """What a distribution says about its licence: an SPDX expression, classifiers, or the first line of a text."""
    told = distribution.metadata
    if told["License-Expression"]:
        return str(told["License-Expression"])
    classifiers = [x.split(" :: ")[-1] for x in told.get_all("Classifier") or [] if x.startswith("License :: ")]
    named = [x for x in classifiers if x != "OSI Approved"]
    if named:
        return ", ".join(dict.fromkeys(named))
    lines = [x.strip() for x in str(told["License"] or "").splitlines() if x.strip()]
    return lines[0] if lines and lines[0] != "UNKNOWN" else "see its files"


def page(wheels: list[Locked]) -> str:
    """Dependencies and licences, as a page."""
    direct = {_plain(re.split(r"[^\w.-]", x)[0]) for x in metadata.requires("penstock") or []}
    text = (
        "# Dependencies\n\nMade by `make lock` from the environment: the wheels of `requirements.lock`, their licences "
        "as they say.\nDirect dependencies (pyproject.toml) are bold. Bill of materials in CycloneDX's form:\n"
        "[results/sbom.json](results/sbom.json).\n\n| package | version | licence |\n|---|---|---|\n"
    )
    for wheel in wheels:
        name = f"**{wheel.name}**" if _plain(wheel.name) in direct else wheel.name
        text += f"| {name} | {wheel.version} | {licence(metadata.distribution(wheel.name))} |\n"
    return text


def bill(wheels: list[Locked]) -> str:
    """The bill of materials: CycloneDX 1.6, JSON; the same lock gives the same text."""
    serial = UUID(bytes=hashlib.sha256(repr(wheels).encode()).digest()[:16], version=4)
    known = {_plain(wheel.name): wheel for wheel in wheels}
    components, dependencies = [], []
    for wheel in wheels:
        distribution = metadata.distribution(wheel.name)
        reference = f"pkg:pypi/{_plain(wheel.name)}@{wheel.version}"
        components.append(
            {
                "type": "library",
                "bom-ref": reference,
                "name": wheel.name,
                "version": wheel.version,
                "purl": reference,
                "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
                "licenses": [{"license": {"name": licence(distribution)}}],
            }
        )
        needed = {_plain(re.split(r"[^\w.-]", x)[0]) for x in distribution.requires or [] if "extra ==" not in x}
        others = sorted(f"pkg:pypi/{name}@{known[name].version}" for name in needed & known.keys())
        dependencies.append({"ref": reference, "dependsOn": others})
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "penstock", "name": "penstock"}},
        "components": components,
        "dependencies": dependencies,
    }
    return json.dumps(content, indent=1) + "\n"


def changed(distribution: Distribution) -> Iterator[str]:
    """Installed files that are missing, or are not what their wheel's RECORD says."""
    for file in distribution.files or []:
        if file.hash is None or file.suffix == ".pyc":
            continue
        path = Path(str(file.locate()))
        if not path.is_file():
            yield f"{file}: missing"
        elif file.hash.mode == "sha256":
            found = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            if found != file.hash.value:
                yield f"{file}: changed"


def _plain(name: str) -> str:
    """A name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    options = parser("What the environment is made of, and whether it is what it says.")
    options.add_argument("--lock", type=Path, metavar="REPORT", help="write the lock from pip's report")
    options.add_argument("--write", action="store_true", help="write licences and bill of materials")
    chosen = options.parse_args()
    if chosen.lock:
        LOCK.write_text(lock(chosen.lock))
    wheels = locked(LOCK.read_text())
    if chosen.write:
        PAGE.write_text(page(wheels))
        BILL.write_text(bill(wheels))
    if chosen.lock or chosen.write:
        return 0
    report = Report("Supply chain")
    there = {_plain(x.metadata["Name"]): x for x in metadata.distributions()}
    names = {_plain(wheel.name) for wheel in wheels}
    other = [x.name for x in wheels if (y := there.get(_plain(x.name))) is not None and y.version != x.version]
    missing = [wheel.name for wheel in wheels if _plain(wheel.name) not in there]
    beside = sorted(there.keys() - names - INSTALLERS)
    files = {name: list(changed(there[name])) for name in sorted(names & there.keys())}
    altered = [f"{name}: {file}" for name, found in files.items() for file in found]
    report.row("wheels in the lock, all with hashes", f"{len(wheels)}")
    report.equal(f"installed versions{f' ({other[0]} ...)' if other else ''}", not other)
    report.row("not installed", ", ".join(missing) or "none")
    report.row("installed beside the lock", ", ".join(beside) or "none")
    report.equal(f"installed files{f' ({altered[0]} ...)' if altered else ''}", not altered)
    figures = {"wheels": len(wheels), "other_version": other, "missing": missing, "beside": beside, "altered": altered}
    return report.finish(figures, chosen.json)  # type: ignore[arg-type]  # lists of text are JSON


if __name__ == "__main__":
    sys.exit(main())
