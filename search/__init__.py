"""The search: configurations, spaces, trials, studies and experiments."""
