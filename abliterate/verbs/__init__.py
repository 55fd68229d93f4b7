"""The verbs beside the run, a file each; no verb knows another."""
