"""What people and scripts read in the terminal: text, tables, bars and the objects of --json."""
