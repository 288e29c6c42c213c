"""Published CLIPs of remote sensing."""
