"""From a sample to a tensor, by (seed, epoch, index)."""
