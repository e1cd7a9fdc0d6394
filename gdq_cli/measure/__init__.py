"""How good and how fast: metrics, evaluation, benchmarks, this machine."""
