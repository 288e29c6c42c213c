"""Vision, text and language towers."""
