"""The command line: `rsvlm <verb or tool>`, one file each."""
