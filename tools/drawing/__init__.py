"""Boxes, masks, charts and HTML; independent of any model."""
