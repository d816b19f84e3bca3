"""What the manifest says of each run: when, where, by whom, with what, how far it came, how fast, and how it ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .cluster import Cluster
from .files import RefusedError, StorageError, write_whole
from .lock import Owner
from .manifest import machine, software
from .series import Ended
from .store import Store
from .telling import Meter

__all__ = ["RunLog"]

#: Seconds between rewrites of the manifest while a run goes on, and how much longer than the last rewrite they are.
INTERVAL, SPARSE = 10.0, 50.0


@dataclass
class RunLog:
    """The entry of one run, kept up to date in the manifest. fits: to be made; jobs: workers.

    cluster: the workers of other machines that compute, if any. path: a file for the entry, instead of the manifest, which
    shards leave alone; more: what else the entry shall say.
    """

    store: Store
    fits: int
    jobs: int
    started: datetime
    meter: Meter = field(default_factory=Meter)
    cluster: Cluster | None = None
    path: Path | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        owner = Owner.this_process()
        self._last, self._wait = time.monotonic(), INTERVAL
        self._entry: dict[str, Any] = {
            "started": self.started.isoformat(), "ended": None, "outcome": "running", "fits": self.fits, "made": 0,
            "jobs": self.jobs, "host": owner.host, "user": owner.user, "pid": owner.pid, "software": software(),
            "machine": machine(), "pace": {}, **self.more,
        }  # fmt: skip
        self._runs = [*self.store.manifest.get("runs", []), self._entry]

    def write(self) -> None:
        self._entry |= {"made": self.meter.made, "pace": self.meter.pace(), "updated": datetime.now(UTC).isoformat()}
        if self.cluster is not None:
            self._entry |= self.cluster.entry()
        if self.path is None:
            self.store.write_manifest(runs=self._runs)
        else:
            write_whole(self.path, json.dumps(self._entry, indent=1).encode())

    def expect(self, fits: int) -> None:
        """More is to be made than was said."""
        self.fits += fits
        self._entry["fits"] = self.fits
        self.write()

    def tick(self) -> None:
        """Write now and then, and less often where that takes long."""
        now = time.monotonic()
        if now - self._last > self._wait:
            self.write()
            self._last = time.monotonic()
            self._wait = max(INTERVAL, SPARSE * (self._last - now))

    def close(self, ended: Sequence[Ended]) -> None:
        """The run came to its end."""
        self._entry |= {"ended": datetime.now(UTC).isoformat(), "outcome": "complete"}
        self.store.manifest["ended_early"] = [end.entry() for end in ended]
        self.write()

    def abandon(self, error: BaseException) -> None:
        """The run was interrupted or failed; what it finished is listed, unless that cannot be written either."""
        failed = f"{type(error).__name__}: {error}".splitlines()[0]
        self._entry |= {
            "stopped": datetime.now(UTC).isoformat(),
            "outcome": "interrupted" if isinstance(error, KeyboardInterrupt) else failed,
        }
        with contextlib.suppress(StorageError, RefusedError):
            if self.path is None:
                self.store.adopt_unlisted()
            self.write()
