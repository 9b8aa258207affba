"""A file per stage of the command line that computes."""
