"""From sample to tensor, determined by (seed, epoch, index)."""
