"""The operator's commands that have a module of their own: each has `add(commands)`, and runs with its options."""
