"""One file per kind of task: how its systems are drawn."""
