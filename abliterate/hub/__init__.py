"""The Hugging Face Hub: download, push, its errors as one line."""
