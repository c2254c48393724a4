"""Datasets and results in others' formats."""
