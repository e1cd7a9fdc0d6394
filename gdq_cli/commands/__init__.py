"""The commands, a module for each or for a group of them. The only room that prints."""
