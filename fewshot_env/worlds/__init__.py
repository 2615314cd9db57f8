"""Worlds of images that are drawn in code: nothing to download, and classes that a human tells apart."""
