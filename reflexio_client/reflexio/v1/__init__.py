"""Generated from proto/reflexio/v1 by scripts/generate."""
