"""Programs for people who work on the pack: training, contact sheets. Nothing here is imported by the engine."""
