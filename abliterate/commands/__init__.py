"""The work of each verb, a file each; no verb knows another."""
