"""Figures by family: each is one function here and one line of the index."""
