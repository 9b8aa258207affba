"""Linear and softmax layers with their derivatives written out, for a CPU."""
