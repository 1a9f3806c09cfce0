"""A study that begins with the best configurations of earlier ones: which fit, and what their choice has seen."""
