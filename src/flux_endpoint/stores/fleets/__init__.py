"""What servers that start and stop workers share."""
