"""What a user of torch touches: VanillaRNN, its initialisation, losses, and a loss in segments."""
