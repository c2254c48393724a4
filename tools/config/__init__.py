"""From a command line to objects: the only room that knows Hydra and all packages."""
