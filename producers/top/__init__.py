"""`penstock top`: what goes on, live on a terminal."""
