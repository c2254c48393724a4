"""Boxes, masks, charts and HTML; knows no model."""
