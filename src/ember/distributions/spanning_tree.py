"""Define random spanning trees of complete graphs, weighted by their edges."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..errors import message
from .parameters import table
from .torch_distribution import TorchDistribution

_EMPTY = torch.Size()

# Cayley's formula, for 0, 1, 2, … vertices.
NUM_SPANNING_TREES = [1, *(1 if n < 3 else n ** (n - 2) for n in range(1, 20))]


class SpanningTree(TorchDistribution):
    """A spanning tree of the complete graph on V vertices, as its edges, ``(V - 1, 2)``.

    The probability is proportional to the exponential of the sum of the edges' logits; the normaliser is a
    determinant (Kirchhoff's matrix-tree theorem), draws are exact (Wilson 1996, Generating random spanning
    trees more quickly than the cover time).

    :param edge_logits: ``(V (V - 1) / 2,)``, edges in the order of :func:`make_complete_graph`.
    :param sampler_options: accepted for compatibility: draws need no options.
    :raises ValueError: if the number of logits is not that of the edges of a complete graph.
    """

    arg_constraints = table(edge_logits=constraints.real)
    support = constraints.independent(constraints.nonnegative_integer, 2)
    has_enumerate_support = True

    def __init__(
        self,
        edge_logits: Tensor,
        sampler_options: dict[str, Any] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.num_vertices = _num_vertices(edge_logits)
        self.edge_logits = edge_logits
        self.sampler_options = sampler_options or {}
        TorchDistribution.__init__(self, _EMPTY, torch.Size((self.num_vertices - 1, 2)), validate_args)

    def validate_edges(self, edges: Tensor) -> None:
        """Raise ValueError unless ``edges``, ``batch + (V - 1, 2)``, form spanning trees."""
        expected = tuple(self._event_shape)
        if tuple(edges.shape[-2:]) != expected:
            raise ValueError(f"expected edges of shape (..., {expected[0]}, 2), got {tuple(edges.shape)}")
        for tree in edges.reshape(-1, *expected).tolist():
            if not _is_tree(self.num_vertices, tree):
                raise ValueError(
                    message(
                        "These edges do not form a spanning tree.",
                        expected=f"{expected[0]} edges (i, j), i < j, without a cycle",
                        actual=tree,
                    )
                )

    @property
    def log_partition_function(self) -> Tensor:
        """Logarithm of the sum over all trees."""
        top = self.edge_logits.detach().max()
        factor = torch.linalg.cholesky(self._laplacian((self.edge_logits - top).exp()))
        return 2.0 * factor.diagonal().log().sum() + (self.num_vertices - 1) * top

    def _laplacian(self, weights: Tensor) -> Tensor:
        """Return the Laplacian without its first row and column."""
        matrix = self._symmetric(weights)
        return (torch.diag(matrix.sum(-1)) - matrix)[1:, 1:]

    def _symmetric(self, values: Tensor) -> Tensor:
        i, j = make_complete_graph(self.num_vertices).to(values.device)
        empty = values.new_zeros(self.num_vertices, self.num_vertices)
        return empty.index_put((torch.cat([i, j]), torch.cat([j, i])), torch.cat([values, values]))

    @property
    def edge_mean(self) -> Tensor:
        """Probability of each edge to be in the tree, as a symmetric ``(V, V)`` matrix."""
        with torch.enable_grad():
            logits = self.edge_logits.detach().requires_grad_()
            log_partition = SpanningTree(logits, validate_args=False).log_partition_function
            (means,) = torch.autograd.grad(log_partition, [logits])
        return self._symmetric(means)

    def log_prob(self, edges: Tensor) -> Tensor:
        if self._validate_args:
            self.validate_edges(edges)
        i, j = edges.min(-1)[0], edges.max(-1)[0]
        return self.edge_logits[i + j * (j - 1) // 2].sum(-1) - self.log_partition_function

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = torch.Size(sample_shape)
        trees = [sample_tree(self.edge_logits) for _ in range(shape.numel())]
        return (
            torch.stack(trees).reshape(shape + self._event_shape)
            if trees
            else torch.empty(shape + self._event_shape)
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        graph = make_complete_graph(self.num_vertices).T.tolist()
        chosen = itertools.combinations(graph, self.num_vertices - 1)
        return torch.tensor([tree for tree in chosen if _is_tree(self.num_vertices, tree)])


def _num_vertices(edge_logits: Tensor) -> int:
    count = edge_logits.shape[0] if edge_logits.dim() == 1 else 0
    vertices = round((1 + (1 + 8 * count) ** 0.5) / 2)
    if count < 1 or vertices * (vertices - 1) // 2 != count:
        raise ValueError(
            message(
                "The edges of a complete graph are V (V - 1) / 2 in number.",
                expected="edge_logits of shape (1,), (3,), (6,), (10,), …",
                actual=tuple(edge_logits.shape),
            )
        )
    return vertices


def _is_tree(num_vertices: int, edges: Iterable[Sequence[int]]) -> bool:
    root = list(range(num_vertices))
    for i, j in edges:
        if not 0 <= i < num_vertices or not 0 <= j < num_vertices or root[i] == root[j]:
            return False
        old, new = root[j], root[i]
        root = [new if each == old else each for each in root]
    return len(set(root)) == 1


def _sorted(edges: Iterable[tuple[int, int]]) -> Tensor:
    """Return edges in the order of the complete graph."""
    return torch.tensor(sorted(((min(e), max(e)) for e in edges), key=lambda e: (e[1], e[0])))


def make_complete_graph(num_vertices: int, backend: str = "python") -> Tensor:
    """Return the edges (i, j) with i < j as columns, ``(2, V (V - 1) / 2)``, in order of j and then i.

    :param backend: accepted for compatibility.

    >>> make_complete_graph(3).tolist()
    [[0, 0, 1], [1, 2, 2]]
    """
    pairs = [(i, j) for j in range(num_vertices) for i in range(j)]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.contiguous()


def sample_tree(
    edge_logits: Tensor, init_edges: Tensor | None = None, mcmc_steps: int = 1, backend: str = "python"
) -> Tensor:
    """Draw a spanning tree exactly, by loop-erased random walks: edges ``(V - 1, 2)``.

    :param init_edges: accepted for compatibility, like the arguments after it: no chain is run.
    """
    vertices = _num_vertices(edge_logits)
    matrix = SpanningTree(edge_logits.detach(), validate_args=False)._symmetric(
        (edge_logits.detach() - edge_logits.detach().max()).double().exp()
    )
    cumulative = matrix.cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    following = [-1] * vertices
    in_tree = [True] + [False] * (vertices - 1)
    for start in range(1, vertices):
        here = start
        while not in_tree[here]:
            step = torch.rand((), dtype=torch.double)
            following[here] = min(int(torch.searchsorted(cumulative[here], step, right=True)), vertices - 1)
            here = following[here]
        here = start
        while not in_tree[here]:
            in_tree[here] = True
            here = following[here]
    return _sorted((v, following[v]) for v in range(1, vertices))


def find_best_tree(edge_logits: Tensor, backend: str = "python") -> Tensor:
    """Return the most probable spanning tree (Kruskal 1956): edges ``(V - 1, 2)``.

    :param backend: accepted for compatibility.
    """
    vertices = _num_vertices(edge_logits)
    graph = make_complete_graph(vertices).T.tolist()
    root, chosen = list(range(vertices)), []
    for k in edge_logits.detach().argsort(descending=True).tolist():
        i, j = graph[k]
        if root[i] != root[j]:
            old, new = root[j], root[i]
            root = [new if each == old else each for each in root]
            chosen.append((i, j))
    return _sorted(chosen)
