"""Energy-based models: say how plausible something is, get all a probability model can do."""
