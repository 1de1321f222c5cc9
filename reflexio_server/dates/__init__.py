"""The dates that a query names, in many languages."""
