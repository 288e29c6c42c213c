"""What is measured, under which protocol, and the predictions behind it."""
