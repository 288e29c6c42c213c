"""Models behind somebody else's endpoint, as members of the zoo."""
