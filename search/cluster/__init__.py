"""Workers on other machines: started by schedulers and engines, on studies whose database keeps the count."""
