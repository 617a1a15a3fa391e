"""Bad input for every command, and what may come of it."""
