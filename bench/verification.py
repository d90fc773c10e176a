"""What is proved of the RTL, and what the proofs find.

    python bench/verification.py [--json FILE] [--quick]

Every proof of `sim/formal.py` is done again, and every mutant of the RTL given to it; `--quick` leaves out those that
take minutes.
"""

from __future__ import annotations

import sys

from pydantic import JsonValue
from rich.progress import track

from bench.table import Report, parser
from sim.formal import PROOFS, extent, try_all


def main() -> int:
    options = parser("What is proved of the RTL, and what the proofs find.")
    options.add_argument("--quick", action="store_true", help="only proofs that take seconds")
    chosen = options.parse_args()
    proofs = [proof for proof in PROOFS if proof.quick or not chosen.quick]
    results = list(track(try_all(proofs, mutants=True), "proofs", len(proofs)))

    report = Report("Proofs of the RTL library")
    for result in results:
        found = f", {len(result.caught)} of {len(result.proof.mutants)} mutants" if result.proof.mutants else ""
        report.row(result.proof.name, f"{result.status.value}, {extent(result.proof)}{found}")
        if not result.holds:
            report.failed.append(str(result))
    figures: dict[str, JsonValue] = {
        "proofs": [
            {
                "name": result.proof.name,
                "status": result.status.value,
                "depth": result.proof.bound or result.proof.depth,
                "unbounded": result.proof.bound == 0,
                "assertions": result.assertions,
                "mutants": {"seeded": len(result.proof.mutants), "caught": len(result.caught)},
            }
            for result in results
        ]
    }
    return report.finish(figures, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
