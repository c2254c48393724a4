"""From a command line to objects: the only package that uses Hydra and knows all others."""
