"""One file per kind of attention layer: its equation, its own parameters and where they start."""
