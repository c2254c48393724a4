"""From samples to batches, in worker processes."""
