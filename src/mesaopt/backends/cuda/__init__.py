"""A fast GPU backend: a whole training step of a model in one launch, compiled on first use by NVRTC."""
