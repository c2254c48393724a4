"""Weights of ours and of others, from a file or a download into a network."""
