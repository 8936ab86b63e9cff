"""From the configuration to jobs: what each is told, and when it is stale."""
