"""A fast CPU backend: the attention stacks' loss and gradients in C++, compiled on this machine on first use."""
