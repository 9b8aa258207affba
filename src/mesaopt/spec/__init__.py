"""What is asked: runs, hand-written algorithms, plans of a scale; settings in YAML."""
