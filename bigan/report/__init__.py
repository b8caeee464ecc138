"""What a run shows: progress, sample grids, event logs."""
