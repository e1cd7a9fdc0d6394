"""One picture: its patches, its bits, the engine, the finished pixels."""
