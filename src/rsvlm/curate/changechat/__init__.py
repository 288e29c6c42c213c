"""Instructions on what has changed, from pairs of pictures with masks: ChangeChat's kinds.

`source` finds pairs, `masks` reads what their masks show and what contradicts it, `rules` makes the
kinds that need no model, `questions` asks a language model for the open ones and holds its answers
against the masks, `writer` writes the files that `data=changechat` reads.
"""
