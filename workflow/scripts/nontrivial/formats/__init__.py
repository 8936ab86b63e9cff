"""The files that the workflow writes: one module each, with schema, writer, reader and check."""
