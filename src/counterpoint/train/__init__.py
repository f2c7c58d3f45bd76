"""Training: the loop, optimisers, schedules, large batches, checkpoints, monitors, logs."""
