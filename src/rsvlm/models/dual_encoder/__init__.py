"""Two pretrained towers, each frozen, and what is trained between them."""
