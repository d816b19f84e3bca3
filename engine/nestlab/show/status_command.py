"""`nestlab status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.text import Text

from ..run.state import State, read_state
from .progress import duration, plural
from .terminal import terminal

__all__ = ["status_command"]

#: Conditions that are listed.
MOST = 12


def status_command(folder: Path, *, as_json: bool, watch: bool, interval: float) -> bool:
    """Print where a study stands, once or until nobody works at it any more; whether it is complete."""
    state = read_state(folder)
    if as_json:
        print(json.dumps(to_json(state), indent=1))
    elif watch:
        state = _watch(state, interval)
    else:
        print("\n".join(lines(state)))
    return state.complete


def _watch(state: State, interval: float) -> State:
    console = terminal()
    if not console.is_terminal:
        while True:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {_short(state)}", flush=True)
            if state.running is None:
                return state
            time.sleep(interval)
            state = read_state(state.folder)
    with Live(Text("\n".join(lines(state))), console=console, auto_refresh=False) as live:
        while state.running is not None:
            time.sleep(interval)
            state = read_state(state.folder)
            live.update(Text("\n".join(lines(state))), refresh=True)
    return state


def lines(state: State) -> Iterator[str]:
    """What people are told."""
    methods = f"{len(state.methods)} methods" if len(state.methods) > 1 else f"method {state.methods[0]}"
    yield f"{state.name} in {state.folder}: {plural(state.conditions, 'condition')}, {methods}"
    share = 100 * state.stored / state.asked if state.asked else 100.0
    whole = state.conditions - len(state.missing)
    yield f"done      {state.stored:,} of {state.asked:,} fits ({_floor(share)} %), {plural(whole, 'condition')} complete"
    if state.missing:
        yield f"missing   {sum(state.missing.values()):,} fits in {_numbers(list(state.missing))}"
    yield f"failed    {_failures(state)}"
    for line in state.stopping:
        yield f"stopping  {line}"
    for end in state.ended[:MOST]:
        yield f"ended     {end.text}"
    if len(state.ended) > MOST:
        yield f"ended     {len(state.ended) - MOST:,} more conditions and methods"
    if state.unused:
        yield f"unused    {plural(state.unused, 'part')} that no condition and method of the study uses, or of another version"
    yield f"now       {_now(state)}"
    if state.missing:
        yield f"rest      {_rest(state)}"


def _floor(share: float) -> str:
    """A percentage that is 100 only where nothing is missing."""
    return f"{min(share, 99.9) if share < 100 else 100:.4g}"


def _numbers(numbers: list[int]) -> str:
    word = "condition" if len(numbers) == 1 else f"{len(numbers):,} conditions:"
    return f"{word} {', '.join(map(str, numbers[:MOST]))}{', ...' if len(numbers) > MOST else ''}"


def _failures(state: State) -> str:
    found = {k: n for k, n in state.statuses.items() if k not in ("ok", "singular")} | dict(state.inference)
    n = state.counted
    if not state.stored:
        return "nothing is stored yet"
    if not n:
        text = "not counted yet in parts that the manifest does not list, or of older versions"
        return f"{text}; nestlab failures {state.folder} counts them"
    if not found:
        return f"none of {n:,} fits" + (", the others are not counted yet" if n < state.stored else "")
    listed = ", ".join(f"{name} {count:,} ({100 * count / n:.3g} %)" for name, count in found.items())
    return f"{listed} of {n:,} fits; which ones: nestlab failures {state.folder}"


def _now(state: State) -> str:
    if state.shards:
        words = "shard" if len(state.shards) == 1 else f"{len(state.shards):,} shards:"
        listed = f"{', '.join(state.shards[:MOST])}{', ...' if len(state.shards) > MOST else ''}"
        return f"running: {words} {listed}" + (
            f" ({state.running.text})" if state.running and len(state.shards) == 1 else ""
        )
    if state.running is not None:
        return f"running: {state.running.text}"
    if state.complete and not (state.folder / "summary.parquet").exists():
        return f"all is stored and not measured yet: nestlab merge {state.folder} after shards, else nestlab run {state.folder}"
    if state.complete:
        return "complete"
    last = {
        "running": "the last run was killed",
        "complete": "",
        "unknown": "",
        "interrupted": "the last run was interrupted",
    }
    reason = last.get(state.outcome, f"the last run ended by {state.outcome}")
    again = f"nestlab run {state.folder}" if state.resumed == "nestlab run" else state.resumed
    return f"not running{f' ({reason})' if reason else ''}; {again} goes on from here"


def _rest(state: State) -> str:
    if state.left is None or state.per_second is None:
        return "unknown: no run has measured its pace yet"
    workers = "" if not state.workers else " on all cores" if state.workers == -1 else f" by {state.workers} workers"
    return f"{_roughly(state)} {duration(state.left)}, at {state.per_second:,.0f} fits a second{workers}"


def _roughly(state: State) -> str:
    return "at most" if state.undecided else "about"


def _short(state: State) -> str:
    """One line for a log."""
    left = f", {_roughly(state)} {duration(state.left)} left" if state.left and state.missing else ""
    whole = state.conditions - len(state.missing)
    doing = "running" if state.running else "complete" if state.complete else "not running"
    return f"{doing}: {state.stored:,} of {state.asked:,} fits, {whole:,} of {state.conditions:,} conditions complete{left}"


def to_json(state: State) -> dict[str, Any]:
    """The same for programs."""
    return {
        "folder": str(state.folder), "name": state.name, "complete": state.complete, "conditions": state.conditions,
        "methods": list(state.methods),
        "fits": {"asked": state.asked, "stored": state.stored, "missing": state.asked - state.stored},
        "missing": {str(number): count for number, count in state.missing.items()}, "statuses": dict(state.statuses),
        "inference": dict(state.inference), "counted": state.counted,
        "ended_early": [{**asdict(end), "text": end.text} for end in state.ended], "unused_parts": state.unused,
        "stopping": list(state.stopping), "undecided": state.undecided,
        "running": None if state.running is None else asdict(state.running),
        "shards": list(state.shards), "outcome": state.outcome,
        "seconds_left": state.left if state.missing else 0.0, "fits_per_second": state.per_second,
    }  # fmt: skip
