"""What a split says about its pictures, and what is wrong with it."""
