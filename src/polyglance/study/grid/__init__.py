"""The jobs of a study: what each is made of, its model, and its state."""
