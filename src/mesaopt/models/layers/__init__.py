"""One file per kind of attention layer."""
