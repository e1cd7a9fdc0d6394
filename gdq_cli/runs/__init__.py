"""Many pictures: what to read, where to write, in which order, and what is said about it."""
