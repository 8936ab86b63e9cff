"""Tables, claims and figures: what people look at."""
