"""A process a rank: serve one job after another, and say what went wrong."""
