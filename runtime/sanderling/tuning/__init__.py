"""What `tune` is made of: plans, trials of them, and what they are asked."""
