"""Sequences of dynamical systems: generators, tokens, files."""
