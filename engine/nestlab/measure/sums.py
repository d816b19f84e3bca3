"""Running sums of replicates that merge: counts, and central co-moments of one or two columns up to order 4.

The replicates of a range are cut into leaves of LEAF, at multiples of LEAF. A leaf holds, of a pair of columns (x, y),

    n,  the origin (x_0, y_0), its first values,  the means less the origin,  M_pq = sum (x - mean x)^p (y - mean y)^q,

and two leaves make the sums of their union by shifting both to its means (Chan, Golub and LeVeque 1983, Am Stat 37:242; Pebay
2008, Sandia report SAND2008-6212, eq. 3.1): with s = mean - mean of the union, and t likewise,

    M'_pq = sum over i <= p, j <= q of C(p, i) C(q, j) s^i t^j M_(p-i)(q-j),   M_00 = n, M_10 = M_01 = 0.

Means are kept as differences from an origin: a constant column has moments of exactly 0, and a mean of 1e6 costs no digits.
Leaves are merged in pairs, the pairs in pairs, always the same ones: the tree of leaf 2k with leaf 2k + 1 and so on. A range of
replicates is held by the whole subtrees that it is made of (`Sums`), two ranges by those of their union, so that the numbers do
not depend on how replicates were cut into ranges, nor on their order, to the last bit; but for ranges whose ends lie within a
leaf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..spec.measures import Array, Mask

__all__ = ["KINDS", "LEAF", "MomentKind", "Node", "SumKey", "Sums", "leaf_counts", "leaf_moments", "merge", "subtrees"]

#: Replicates of a leaf.
LEAF = 64


class MomentKind(NamedTuple):
    """What is kept of a quantity: which M_pq, in which order; none: counts alone (n, hits)."""

    name: str
    moments: tuple[tuple[int, int], ...]

    @property
    def width(self) -> int:
        """Numbers: n, origins and means of x and y, moments; or n and hits."""
        return 5 + len(self.moments) if self.moments else 2


#: With M_pq each holds all that a shift of it needs.
KINDS = {
    kind.name: kind
    for kind in (
        MomentKind("count", ()),
        MomentKind("mean", ((2, 0),)),
        MomentKind("means", ((2, 0), (1, 1), (0, 2))),
        MomentKind("spread", ((2, 0), (3, 0), (4, 0))),
        MomentKind("spread and mean", ((2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (4, 0))),
        MomentKind(
            "spreads", ((2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))
        ),
    )
}


class SumKey(NamedTuple):
    """Whose sums: of a method, an estimand ("" for the method as a whole) and a subset of the replicates; and what of them."""

    method: str
    estimand: str
    subset: str
    quantity: str


class Node(NamedTuple):
    """Replicates first .. last - 1, a whole subtree or a part of one leaf. values: by kind, (keys, width)."""

    first: int
    last: int
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Sums:
    """Sums of some replicates. keys: by kind; nodes: in order, disjoint."""

    keys: Mapping[str, tuple[SumKey, ...]]
    nodes: tuple[Node, ...]

    def of(self, methods: Iterable[str]) -> Sums:
        """Those of some methods."""
        wanted = set(methods)
        places = {kind: [i for i, key in enumerate(keys) if key.method in wanted] for kind, keys in self.keys.items()}
        keys = {kind: tuple(self.keys[kind][i] for i in chosen) for kind, chosen in places.items()}
        nodes = (
            Node(n.first, n.last, {kind: n.values[kind][chosen] for kind, chosen in places.items()}) for n in self.nodes
        )
        return Sums(keys, tuple(nodes))

    def total(self) -> dict[SumKey, Array]:
        """All nodes together, by key: (width,)."""
        found: dict[SumKey, Array] = {}
        for kind, keys in self.keys.items():
            whole = np.zeros((len(keys), KINDS[kind].width))
            for node in self.nodes:
                whole = _merged(whole, node.values[kind], KINDS[kind])
            found |= dict(zip(keys, whole, strict=True))
        return found


def merge(parts: Iterable[Sums]) -> Sums:
    """The sums of the union of disjoint ranges, in any order. ValueError where ranges overlap or hold other quantities."""
    parts = list(parts)
    keys = parts[0].keys
    for part in parts[1:]:
        if dict(part.keys) != dict(keys):
            raise ValueError("sums of other methods or estimands can't be merged; merge those of one study")
    stack: list[Node] = []
    for node in sorted((n for part in parts for n in part.nodes), key=lambda n: n.first):
        if stack and node.first < stack[-1].last:
            raise ValueError(f"replicates {node.first} to {stack[-1].last - 1} are summed twice; give each range once")
        stack.append(node)
        while len(stack) > 1 and _siblings(*stack[-2:]):
            b, a = stack.pop(), stack.pop()
            values = {kind: _merged(a.values[kind], b.values[kind], KINDS[kind]) for kind in keys}
            stack.append(Node(a.first, b.last, values))
    return Sums(keys, tuple(stack))


def _siblings(a: Node, b: Node) -> bool:
    size = a.last - a.first
    whole = a.last == b.first and size == b.last - b.first and size % LEAF == 0
    return whole and a.first % (2 * size) == 0


def subtrees(leaves: Mapping[str, Array], first: int, last: int) -> Iterator[Node]:
    """Leaves merged as far as replicates first .. last - 1 allow. leaves: by kind, (keys, leaves, width)."""
    start, end = -(-first // LEAF), last // LEAF
    if start > end:  # within one leaf
        yield Node(first, last, {kind: values[:, 0] for kind, values in leaves.items()})
        return
    if first < start * LEAF:
        yield Node(first, start * LEAF, {kind: values[:, 0] for kind, values in leaves.items()})
    offset = start - first // LEAF
    level = {kind: values[:, offset : offset + end - start] for kind, values in leaves.items()}
    size, whole, end_of_leaves = LEAF, [], end * LEAF
    while start < end:
        for index in ([start] if start % 2 else []) + ([end - 1] if end % 2 else []):
            alone = {kind: v[:, index - start] for kind, v in level.items()}
            whole.append(Node(index * size, (index + 1) * size, alone))
        cut = slice(start % 2, end - start - end % 2)
        pairs = {kind: v[:, cut] for kind, v in level.items()}
        level = {kind: _merged(v[:, ::2], v[:, 1::2], KINDS[kind]) for kind, v in pairs.items()}
        start, end, size = (start + 1) // 2, end // 2, 2 * size
    yield from sorted(whole, key=lambda node: node.first)
    if last > end_of_leaves:
        yield Node(end_of_leaves, last, {kind: values[:, -1] for kind, values in leaves.items()})


def leaf_counts(mask: Mask, hits: Mask) -> Array:
    """(leaves, 2): replicates of the mask, and the hits among them. mask, hits: (leaves, LEAF)."""
    return np.stack([np.count_nonzero(mask, axis=1), np.count_nonzero(mask & hits, axis=1)], axis=1).astype(np.float64)


def leaf_moments(mask: Mask, x: Array, y: Array | None, kind: MomentKind) -> Array:
    """(leaves, width): the moments of the replicates of the mask. mask, x, y: (leaves, LEAF)."""
    n = np.count_nonzero(mask, axis=1).astype(np.float64)
    at = (np.arange(len(n)), mask.argmax(axis=1))
    out = np.zeros((len(n), kind.width))
    out[:, 0] = n
    powers: list[list[Array]] = []
    for place, column in enumerate((x,) if y is None else (x, y)):
        origin = np.where(n > 0, column[at], 0.0)
        deviation = np.where(mask, column - origin[:, None], 0.0)
        mean = deviation.sum(axis=1) / np.maximum(n, 1.0)
        deviation = np.where(mask, deviation - mean[:, None], 0.0)
        square = deviation * deviation
        powers.append([np.ones(1), deviation, square, square * deviation, square * square])
        out[:, 1 + place], out[:, 3 + place] = origin, mean
    for i, (p, q) in enumerate(kind.moments):
        product = powers[0][p] if q == 0 else powers[1][q] if p == 0 else powers[0][p] * powers[1][q]
        out[:, 5 + i] = product.sum(axis=1)
    return out


def _merged(a: Array, b: Array, kind: MomentKind) -> Array:
    """The union of two, (..., width) each; what overflows is inf or nan."""
    if not kind.moments:
        return a + b
    with np.errstate(all="ignore"):
        n = a[..., 0] + b[..., 0]
        total = np.maximum(n, 1.0)
        dx, dy = ((b[..., k] - a[..., k]) + (b[..., k + 2] - a[..., k + 2]) for k in (1, 2))
        mine, other = a[..., 0] / total, b[..., 0] / total
        out = np.empty_like(a)
        out[..., 0], out[..., 1:3] = n, a[..., 1:3]
        out[..., 3], out[..., 4] = a[..., 3] + dx * other, a[..., 4] + dy * other
        left, right = _shifted(a, -dx * other, -dy * other, kind), _shifted(b, dx * mine, dy * mine, kind)
        for i, (one, two) in enumerate(zip(left, right, strict=True), start=5):
            out[..., i] = one + two
        alone = np.where((a[..., :1] == 0), b, a)
        return np.where((a[..., :1] == 0) | (b[..., :1] == 0), alone, out)


def _shifted(a: Array, s: Array, t: Array, kind: MomentKind) -> Iterator[Array]:
    """The moments about other means, s and t below the own ones."""
    known: dict[tuple[int, int], Array] = {(0, 0): a[..., 0]}
    known |= {exponents: a[..., 5 + i] for i, exponents in enumerate(kind.moments)}
    for p, q in kind.moments:
        total = known[p, q]
        for i in range(p + 1):
            for j in range(q + 1):
                if i + j and (p - i, q - j) in known:
                    total = total + math.comb(p, i) * math.comb(q, j) * s**i * t**j * known[p - i, q - j]
        yield total
