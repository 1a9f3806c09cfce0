"""Parts that models are built of."""
