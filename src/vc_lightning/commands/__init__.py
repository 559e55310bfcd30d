"""What a person types: one Hydra entry point a file."""
