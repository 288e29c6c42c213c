"""Prompts, instructions, boxes as text, tokens."""
