"""From a download to the layout that the readers expect."""
