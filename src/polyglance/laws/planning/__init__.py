"""Plans: what a target costs, and what a budget buys."""
