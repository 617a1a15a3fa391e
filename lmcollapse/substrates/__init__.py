"""What can be fitted, sampled and scored."""
