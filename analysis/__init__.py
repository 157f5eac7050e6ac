"""What the papers measure: one file a measurement."""
