"""`nestlab verify`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..run.verify import TOLERANCE, Verified, verify

__all__ = ["verify_command"]

#: Differences that are listed.
MOST = 10


def verify_command(folder: Path, *, blocks: int, seed: int | None, as_json: bool, allow_code: bool) -> bool:
    """Recompute some blocks and say what differs; whether nothing does. seed: of the sample, drawn if None."""
    code = [str(folder.resolve()), str(Path.cwd())] if allow_code else None
    found = verify(folder, blocks=blocks, seed=secrets.randbelow(2**32) if seed is None else seed, code=code)
    if as_json:
        print(json.dumps(to_json(found), indent=1))
    else:
        print("\n".join(lines(found)), file=sys.stderr if found.different else sys.stdout)
    return not found.different


def lines(found: Verified) -> Iterator[str]:
    """What people are told."""
    how = "bit for bit" if found.exact else f"to {TOLERANCE:g}"
    yield (
        f"{found.blocks:,} of {found.population:,} blocks (sample {found.seed}) recomputed, {found.replicates:,} replicates by "
        f"method, {found.values:,} values compared {how}: "
        + (f"{found.different:,} differ" if found.different else "all equal")
    )
    for line in found.elsewhere:
        yield f"not bit for bit, because made elsewhere: {line}"
    for each in found.differs[:MOST]:
        yield each.text
    if len(found.differs) > MOST:
        yield f"and {len(found.differs) - MOST:,} more columns of blocks"
    if found.differs:
        yield "these results are not what the study gives; remove the files named and run again, or run anew with --out"


def to_json(found: Verified) -> dict[str, object]:
    """The same for programs."""
    return {
        "seed": found.seed, "population": found.population, "blocks": found.blocks, "replicates": found.replicates,
        "values": found.values, "exact": found.exact, "elsewhere": list(found.elsewhere), "different": found.different,
        "differs": [asdict(each) for each in found.differs],
    }  # fmt: skip
