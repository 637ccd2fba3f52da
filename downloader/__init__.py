"""Fetches a chunk's images, politely and safely, into one pack file."""
