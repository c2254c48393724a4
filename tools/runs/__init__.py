"""Run folders: their identity, their files, and loading a task from them."""
