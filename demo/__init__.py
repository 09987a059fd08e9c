"""A fleet upgraded under load, in the lab, with what a user would type."""
