"""A run as one file, proved equal to the run."""
