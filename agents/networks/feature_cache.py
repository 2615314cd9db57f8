"""Features of items that were met before, found again by what the items hold."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from xxhash import xxh3_128_digest

MOST_BYTES = 2**29
"""What the features may take; beyond that the oldest go."""


class FeatureCache:
    """Features [F] by item. An item is known by a hash of 128 bits of all its bytes.

    A copy of a cache is empty, so that copies of an agent do not hold everything twice.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, Tensor] = {}

    def __deepcopy__(self, memo: object) -> FeatureCache:
        return FeatureCache()

    def __getstate__(self) -> dict[str, object]:
        return {"_kept": {}}

    def clear(self) -> None:
        """Forget everything: the network changed."""
        self._kept.clear()

    def features(self, items: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features [n, F] of items [n, ...]; `compute` is called with those that are new, each once."""
        names = _names(items)
        first = {name: i for i, name in enumerate(names) if name not in self._kept}
        found = {name: self._kept[name] for name in names if name in self._kept}
        if first:
            with torch.inference_mode(False), torch.no_grad():  # what is kept may be used in training later
                new = compute(items[[*first.values()]])
                found |= {name: row.clone() for name, row in zip(first, new, strict=True)}  # a view would keep all
            self._kept |= found
            most = max(1, MOST_BYTES // (new[0].numel() * new.element_size()))
            for name in [*self._kept][: max(0, len(self._kept) - most)]:
                del self._kept[name]
        return torch.stack([found[name] for name in names])


def _names(items: Tensor) -> list[bytes]:
    """A name for each item [n, ...]: a hash of its bytes as they lie in memory, and of how they lie."""
    strides = items.stride()
    order = sorted(range(1, items.dim()), key=lambda d: -strides[d])
    dense = items.detach().cpu().permute(0, *order).contiguous().flatten(1)  # mostly without a copy
    form = repr((order, items.shape[1:], items.dtype)).encode()
    return [xxh3_128_digest(form + item.data) for item in dense.view(torch.uint8).numpy()]
