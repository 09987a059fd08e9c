"""The benchmark: what a rolling upgrade costs, ours beside the floor and the peers, in the lab under load."""
