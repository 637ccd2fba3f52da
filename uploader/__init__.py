"""Writes a chunk's accepted images and its index to the destination."""
