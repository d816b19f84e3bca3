"""`nestlab verify`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ..run.folder import resumed_by
from ..run.store import Store
from ..run.verify import TOLERANCE, Verified, verify

__all__ = ["verify_command"]

#: Differences that are listed.
MOST = 10


def verify_command(folder: Path, *, blocks: int, seed: int | None, as_json: bool, allow_code: bool) -> Verified:
    """Recompute some blocks, check the rest, and say what is wrong. seed: of the sample, drawn if None."""
    code = [str(folder.resolve()), str(Path.cwd())] if allow_code else None
    found = verify(folder, blocks=blocks, seed=secrets.randbelow(2**32) if seed is None else seed, code=code)
    if as_json:
        print(json.dumps(to_json(found), indent=1))
    else:
        print(
            "\n".join(lines(found, resumed_by(Store(folder).manifest))),
            file=sys.stdout if found.whole and not found.wrong else sys.stderr,
        )
    return found


def lines(found: Verified, resumed: str = "nestlab run") -> Iterator[str]:
    """What people are told. resumed: what goes on with the folder."""
    how = "bit for bit" if found.exact else f"to {TOLERANCE:g}"
    yield (
        f"{found.blocks:,} of {found.population:,} blocks (sample {found.seed}) recomputed, {found.replicates:,} replicates by "
        f"method, {found.values:,} values compared {how}: " + _outcome(found)
    )
    for line in found.elsewhere:
        yield f"not bit for bit, because made elsewhere: {line}"
    for each in found.differs[:MOST]:
        yield each.text
    if len(found.differs) > MOST:
        yield f"and {len(found.differs) - MOST:,} more columns of blocks"
    for listed, what in ((found.problems, "more that is wrong"), (found.missing, "more conditions and methods")):
        yield from listed[:MOST]
        if len(listed) > MOST:
            yield f"and {len(listed) - MOST:,} {what}"
    if found.differs:
        yield "these results are not what the study gives; remove the files named and run again, or run anew with --out"
    if found.wrong:
        yield "not verified: stored results are not what the study gives"
    elif not found.whole:
        yield f"not verified: incomplete; {resumed} goes on from here"
    else:
        yield "study.toml, manifest.json, conditions.parquet, summary.parquet and all parts agree"


def _outcome(found: Verified) -> str:
    if found.different:
        return f"{found.different:,} differ"
    if not found.values:
        return "nothing was compared"
    return "all equal" if found.whole and not found.wrong else "none differs, and not all is as it should be"


def to_json(found: Verified) -> dict[str, object]:
    """The same for programs."""
    return {
        "seed": found.seed, "population": found.population, "blocks": found.blocks, "replicates": found.replicates,
        "values": found.values, "exact": found.exact, "elsewhere": list(found.elsewhere), "different": found.different,
        "differs": [asdict(each) for each in found.differs], "problems": found.problems, "missing": found.missing,
    }  # fmt: skip
