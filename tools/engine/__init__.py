"""The loop that every task shares. It knows a Task, a loader and a run; it imports no network, loss or data set."""
