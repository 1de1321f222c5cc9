"""Embedding texts and finding the nearest vectors."""
