"""What operators deploy beside the controllers."""
