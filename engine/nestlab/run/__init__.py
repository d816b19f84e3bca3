"""Many replications: blocks, workers, and what is kept on disk."""
