"""The loop that trains, and what it consists of."""
