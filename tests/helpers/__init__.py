"""What test modules share; fixtures stand in tests/conftest.py."""
