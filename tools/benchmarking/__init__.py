"""Time, memory and agreement of a run, a model or a file."""
