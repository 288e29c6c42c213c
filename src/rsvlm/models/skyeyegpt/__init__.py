"""SkyEyeGPT."""
