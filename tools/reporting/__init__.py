"""The HTML report of evaluated runs."""
