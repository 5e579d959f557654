"""What is thrown away when its time is over."""
