"""The front door: recipes, the steps from data to verified RTL, and the command line."""
