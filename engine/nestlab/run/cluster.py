"""What computes tasks elsewhere, as `workers.Work` sees it; `dask_backend.DaskCluster` is one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .plan import Pace

__all__ = ["Cluster", "ClusterError"]


class ClusterError(Exception):
    """Other machines failed a run: no scheduler, no workers, a task that ends its worker. Finished parts are kept."""


class Cluster(Protocol):
    """Workers of other machines. pace: by which tasks are cut, learned from what workers report."""

    pace: Pace

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Generator[Any, None, None]:
        """The results of function(*call), in any order; calls are taken as workers are free. ClusterError where that fails."""
        ...

    def entry(self) -> dict[str, Any]:
        """What the manifest says of the workers."""
        ...
