"""What the product does, written against protocols."""
