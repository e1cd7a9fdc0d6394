"""EDSR: network, weights of other projects."""
