"""Embedding texts, finding the nearest vectors, reading what stands in pictures."""
