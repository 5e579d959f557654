"""What makes a GPU draw faster: each thing checked and measured on the card at hand before it is used."""
