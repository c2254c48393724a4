"""The loop that every task shares; knows a `Task`, a loader and a run."""
