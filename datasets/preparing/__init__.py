"""From a download to a layout that the readers take."""
