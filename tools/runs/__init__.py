"""A run's folder: its identity, its files, and the task back out of it."""
