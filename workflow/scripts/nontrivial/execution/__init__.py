"""What touches the machine: devices, locks, signals, atomic files, reuse of earlier results."""
