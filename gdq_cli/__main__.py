"""``python -m gdq_cli``."""

from gdq_cli.commands.app import main

if __name__ == "__main__":
    main()
