"""One module per source of raw data, and what they share: archives, downloads, locations."""
