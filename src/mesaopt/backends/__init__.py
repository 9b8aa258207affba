"""Who computes loss and gradients of a model."""
