"""The platform's functions. Each reads its event, calls what does the work, and answers."""
