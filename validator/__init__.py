"""The validator: decides for each fetched image whether it is accepted, and derives what the recipe asks."""
