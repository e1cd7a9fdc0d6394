"""From float32 to integers by statistics: steps, thresholds, controller."""
