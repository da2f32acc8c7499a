"""What files from somebody else may say: options, presets, Hydra's own settings."""
