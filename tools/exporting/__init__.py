"""Export of a run to one file, verified against the run."""
