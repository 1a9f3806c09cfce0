"""What a search is asked for, and what has to be known before it begins: data, folders, slots, the wanted study."""
