"""What hears: sounds to features, windows of them to words, whole or as they come."""
