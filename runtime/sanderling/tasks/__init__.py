"""One small file a task: what a call takes, and the typed result it gives."""
