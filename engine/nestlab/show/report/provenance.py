"""Software, machine, time, seed and streams; keys and parts, so that every number can be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...spec.identity import DRAW_VERSION, NUMERICS_VERSION, result_key
from .material import Code, Material, Paragraph, ReportTable, Section, plural, value_text

__all__ = ["provenance_section", "software_section", "study_file"]


def software_section(material: Material) -> Section:
    """Versions, machine, run time, seed and the rule of random streams."""
    manifest = material.manifest
    software = tuple((name, str(number)) for name, number in _mapping(manifest.get("software")).items())
    machine = tuple(
        (name, value_text(value)) for name, value in _mapping(manifest.get("machine")).items() if value != ""
    )
    return Section(
        "Software, machine and random numbers",
        (
            ReportTable("Software, at the last run", ("name", "version"), software),
            ReportTable("Machine, at the last run", ("item", "value"), machine),
            _runs(manifest),
            Paragraph(
                f"Seed {material.study.seed}. Replicates are drawn in blocks; the stream of a block is NumPy's "
                "SFC64, seeded by SeedSequence from the seed, the condition's data key (a SHA-256 of all that "
                "decides which data are drawn) and the block's number. So all methods see the same data, and "
                "results are the same for any number of workers, any order, interruption and extension. One "
                "replicate's rows: nestlab simulate FOLDER --condition C --replicate R --out rows.csv."
            ),
        ),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _runs(manifest: Mapping[str, Any]) -> ReportTable:
    runs = manifest.get("runs") or []
    rows = tuple(
        (
            str(run.get("started") or "?"),
            str(run.get("ended") or "not finished"),
            _seconds(run),
            f"{run.get('fits', 0):,}",
        )
        for run in runs
    )
    return ReportTable(
        f"{plural(len(rows), 'run')} (UTC)", ("started", "ended", "seconds", "fits"), rows, len(rows) > 8
    )


def _seconds(run: Mapping[str, Any]) -> str:
    try:
        spent = datetime.fromisoformat(run["ended"]) - datetime.fromisoformat(run["started"])
    except (KeyError, TypeError, ValueError):
        return "unknown"
    return f"{spent.total_seconds():,.1f}"


def provenance_section(material: Material) -> Section:
    """Keys of data and results, and the stored parts by their checksums."""
    manifest = material.manifest
    parts = _mapping(manifest.get("parts"))
    sums = sorted(str(_mapping(entry).get("sha256")) for entry in parts.values())
    digest = hashlib.sha256("\n".join(sums).encode()).hexdigest()
    items = (
        ("study", f"{manifest.get('name', material.study.name)}, study.toml with SHA-256 {_sha256(material)}"),
        ("seed", str(material.study.seed)),
        ("replications asked for", " to ".join(f"{n:,}" for n in sorted(set(material.asked()))) + " a condition"),
        (
            "parts",
            f"{plural(len(parts), 'Parquet file')}, {sum(map(_known_sum, sums)):,} with a SHA-256 in manifest.json",
        ),
        ("digest of all parts", f"{digest} (SHA-256 of their sorted SHA-256s, a line each)"),
        ("versions", f"draws {DRAW_VERSION}, numerics {NUMERICS_VERSION}, schema {manifest.get('schema_version')}"),
        ("nestlab", str(_mapping(manifest.get("software")).get("nestlab", "version not recorded"))),
    )
    keys = tuple(
        (str(row.number), row.data_key, method.name, result_key(row.data_key, method))
        for row in material.conditions
        for method in material.methods
    )
    header = ("condition", "data key", "method", "result key")
    return Section(
        "Provenance",
        (
            ReportTable("What the results are", ("item", "value"), items),
            ReportTable("Keys of data and of results (SHA-256)", header, keys, folded=True),
            study_file(material),
        ),
    )


def _known_sum(text: str) -> bool:
    return len(text) == 64


def _sha256(material: Material) -> str:
    return hashlib.sha256((material.results.folder / "study.toml").read_bytes()).hexdigest()


def study_file(material: Material) -> Code:
    """study.toml as it was run."""
    return Code("The study file, as run", (material.results.folder / "study.toml").read_text(encoding="utf-8-sig"))
