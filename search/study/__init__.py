"""One study: its configuration, its trials, how they end, and which are the best."""
