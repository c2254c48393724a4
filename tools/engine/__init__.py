"""The training loop of all tasks; knows only a `Task`, a loader and a run."""
