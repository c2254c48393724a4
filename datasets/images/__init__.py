"""A picture file as pixels."""
