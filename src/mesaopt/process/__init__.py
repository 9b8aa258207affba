"""What it takes to be a process: checkpoints, stopping, progress, threads."""
