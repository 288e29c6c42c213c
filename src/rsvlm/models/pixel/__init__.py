"""What GeoPix, LISA and PixelLM share: answers with masks."""
