"""Rights of people over their data, carried out on every file of a home. No clock, no environment."""
