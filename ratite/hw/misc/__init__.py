"""What has no kind of its own."""
