"""Pocketvision: object detection and semantic segmentation that fit in a pocket."""

__version__ = "0.1.0"
