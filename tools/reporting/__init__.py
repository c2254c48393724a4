"""The HTML page of evaluated runs."""
