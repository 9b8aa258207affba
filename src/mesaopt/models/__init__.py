"""Transformers of linear, softmax and mesa attention layers."""
