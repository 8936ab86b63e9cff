"""From raw files to the prepared form of a data set."""
