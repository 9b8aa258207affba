"""One file per way of cutting text into tokens."""
