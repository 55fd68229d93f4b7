"""Fine-tuning around the edit: keep a direction out while a model trains, heal an edited model, harden one."""
