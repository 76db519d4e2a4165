"""What people read: the pages, the README, and what the code writes into them."""
