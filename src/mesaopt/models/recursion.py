"""What the mesa-layer carries along the sequence: the inverse of its Gram matrix, and sums over earlier and later positions.

Arrays are (lane, time, d): one lane for each head of each sequence.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mesaopt.models.attention import causal_mask

#: positions taken together in the attention products: bounds the memory of their scores
PART = 64
#: lanes whose scores fit into a processor's cache together
LANES = 128


class Inverse:
    """R_t of every lane by recursive least squares; lanes last, so that each operation is one pass over contiguous numbers."""

    def __init__(self, lam: Tensor, d_head: int) -> None:
        self.R = torch.eye(d_head, dtype=lam.dtype, device=lam.device)[..., None] * lam
        self.product = torch.empty_like(self.R)

    def solve(self, k: Tensor, forget: Tensor | None, *sides: Tensor) -> list[Tensor]:
        """R_t times each right-hand side at every position of a part, as views (lane, time, d)."""
        solved = [_lanes_last(side) for side in sides]
        for t, key in enumerate(_lanes_last(k)):
            self._update(key, None if forget is None else forget[:, t])
            for side in solved:
                self._times(side[t], out=side[t])
        return [side.permute(2, 0, 1) for side in solved]

    def _update(self, key: Tensor, forget: Tensor | None) -> None:
        """R = (forget R^-1 + k k^T)^-1 by Sherman and Morrison; R stays exactly symmetric."""
        if forget is not None:
            self.R /= forget
        gain = self._times(key, out=torch.empty_like(key))
        gain *= (1 + (key * gain).sum(0)).rsqrt()
        self.R.addcmul_(gain[:, None], gain, value=-1)

    def _times(self, side: Tensor, out: Tensor) -> Tensor:
        # R is symmetric: the sum over the first index is the faster one
        return torch.sum(torch.mul(self.R, side[:, None], out=self.product), 0, out=out)


def _lanes_last(x: Tensor) -> Tensor:
    return x.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)


class Part:
    """A run of positions, the weights m_{t',t} within it, and the attention products that reach into and out of it.

    `at` selects it from (lane, time, ...); m_{t',t} is the product of forget over t'+1..t, and 1 without forgetting. A sum over
    earlier or later parts is None where there are none.
    """

    def __init__(self, at: slice, k: Tensor, forget: Tensor | None) -> None:
        self.at, self.is_first, self.is_last = (slice(None), at), at.start == 0, at.stop >= k.shape[1]
        k = k[self.at]
        mask, one = causal_mask(k.shape[1], k), k.new_ones(())
        self.forget = None if forget is None else forget[self.at]
        if self.forget is None:
            self.within, self.from_start, self.to_end, self.total = mask.to(k).expand(len(k), -1, -1), one, one, one
            return
        log = self.forget.log().cumsum(-1)
        self.within = (log[:, :, None] - log[:, None, :]).masked_fill_(~mask, -torch.inf).exp_()
        self.from_start, self.to_end, self.total = log.exp(), (log[:, -1:] - log).exp(), log[:, -1].exp()

    def attend(self, a: Tensor, b: Tensor, c: Tensor, before: Tensor | None) -> Tensor:
        """sum_{t'<=t} m_{t',t} c_{t'} (b_{t'} . a_t), where `before` is the sum of b c^T over earlier parts."""
        out = a.new_empty(*a.shape[:2], c.shape[-1])
        for lanes in lane_blocks(a):
            torch.bmm((a[lanes] @ b[lanes].mT).mul_(self.within[lanes]), c[lanes], out=out[lanes])
        return out if before is None else out.add_(self.from_start[..., None] * (a @ before))

    def gather(self, a: Tensor, b: Tensor, c: Tensor, after: Tensor | None) -> Tensor:
        """sum_{t>=t'} m_{t',t} a_t (b_t . c_{t'}), where `after` is the sum of b a^T over later parts."""
        out = (b @ c.mT).mul_(self.within).mT @ a
        return out if after is None else out.add_(self.to_end[..., None] * (c @ after))

    def carry(self, before: Tensor | None, b: Tensor, c: Tensor) -> Tensor | None:
        """The sum of b c^T up to the end of this part; None if nobody needs it."""
        if self.is_last:
            return None
        own = (self.to_end[..., None] * b).mT @ c
        return own if before is None else own + self.total[..., None, None] * before

    def carry_back(self, after: Tensor | None, b: Tensor, a: Tensor) -> Tensor | None:
        """The sum of b a^T from the start of this part on; None if nobody needs it."""
        if self.is_first:
            return None
        own = (self.from_start[..., None] * b).mT @ a
        return own if after is None else own + self.total[..., None, None] * after


def parts(k: Tensor, forget: Tensor | None, backwards: bool = False) -> Iterator[Part]:
    """All positions, from earlier to later or backwards, one part in memory at a time; `forget` is (lane, time)."""
    starts = range(0, k.shape[1], PART)
    for start in reversed(starts) if backwards else starts:
        yield Part(slice(start, start + PART), k, forget)


def lane_blocks(x: Tensor) -> Iterator[slice]:
    """Lanes that are taken together: a cache full on a processor, all of them on a GPU."""
    size = LANES if x.device.type == "cpu" else len(x)
    for start in range(0, len(x), size):
        yield slice(start, start + size)
