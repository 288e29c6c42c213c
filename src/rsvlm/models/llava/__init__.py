"""LLaVA for RS-GPT4V, and GeoChat."""
