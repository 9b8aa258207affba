"""Results that one can browse: a page of a scale, in one file, with every figure as an interactive plot."""
