"""The tables of finished runs become the recorded ones."""
