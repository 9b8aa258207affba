"""One file per objective: what a model reads, what it predicts, and its loss."""
