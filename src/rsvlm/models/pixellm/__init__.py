"""PixelLM."""
