"""The doors through which jobs come in; all of them stand on penstock.client."""
