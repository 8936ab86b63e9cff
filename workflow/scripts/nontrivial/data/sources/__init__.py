"""Sources of raw data, one module each, and the archives, downloads and locations they share."""
