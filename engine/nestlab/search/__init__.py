"""Which design reaches a target: where to simulate next, and when the answer is sure enough."""
