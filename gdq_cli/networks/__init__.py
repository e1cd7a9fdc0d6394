"""Super-resolution networks, written once in float with quantizers that training learns and engines lower."""
