"""Mesa-optimisation algorithms in Transformers: reproduce, check and extend arXiv:2309.05858."""

__version__ = "0.1.0"
