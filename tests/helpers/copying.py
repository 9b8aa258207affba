"""A first layer of softmax attention that copies: it puts s_{t-1} beside s_t, and nothing else."""

import torch
from stage_files import N

from mesaopt.models.transformer import Transformer
from mesaopt.spec.run import Model

COPYING = Model(("softmax",), "raw", 3 * N, n_heads=1, d_head=16, init_std=0.1, d_pe=16)


def copying() -> Transformer:
    """Queries turn the positions back by one: their product with keys is largest, by far, one position before."""
    eye, angles = torch.eye(N), 10000.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    back = torch.block_diag(*[torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]]) for a in angles])
    of_stream, zero = torch.zeros(16, 3 * N), torch.zeros(N, N)
    model = Transformer(COPYING, N)
    model.load_seeds([{
        "embedding": torch.cat([eye, zero, zero]),
        "unembedding": torch.cat([eye, zero, zero], 1),
        "layers.0.W_Q": torch.cat([of_stream, 2000 * back.float()], 1)[None],
        "layers.0.W_K": torch.cat([of_stream, torch.eye(16)], 1)[None],
        "layers.0.W_V": torch.nn.functional.pad(eye, (0, 2 * N, 0, 16 - N))[None],
        "layers.0.W_O": torch.nn.functional.pad(eye, (0, 16 - N, N, N))[None],
    }])  # fmt: skip
    return model
