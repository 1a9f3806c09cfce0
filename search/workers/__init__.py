"""Workers and the processes they start: trials as isolated runs, fleets, signals, and what people see of them."""
