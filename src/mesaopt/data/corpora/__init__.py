"""One file per source of text: where its documents are, and which of them are near-copies of each other."""
