"""``python -m gdq_cli``."""

from gdq_cli.cli import main

if __name__ == "__main__":
    main()
