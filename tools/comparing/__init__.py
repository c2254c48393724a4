"""Runs beside runs: their evaluations and their loss curves."""
