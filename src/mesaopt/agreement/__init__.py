"""How far the results agree with the paper: claims judged by intervals over training seeds, curves compared point by point."""
