"""The commands: flags, what is printed. The only room that prints."""
