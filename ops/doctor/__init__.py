"""`penstock doctor`: checks settings, server, workers and routes, and says what to do."""
