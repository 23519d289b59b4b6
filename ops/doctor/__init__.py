"""`penstock doctor`: checks everything between settings and webhooks, and says what to do."""
