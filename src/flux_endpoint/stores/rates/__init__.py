"""What gateways tell each other of the requests they let in."""
