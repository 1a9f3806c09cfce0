"""In which precision frozen features are computed: what a study chose, and by what measurement."""
