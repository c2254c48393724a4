"""The annotations of a split, and faults in them."""
