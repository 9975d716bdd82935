"""Pictures with captions: sets that are made on the spot, and folders as people have them."""
