"""Other forms of an edit: PEFT adapter, GGUF adapter, control vector."""
