"""SRResNet, as the authors released it."""
