"""Making checkpoints: data, calibration, training."""
