"""Datasets and results in third-party formats."""
