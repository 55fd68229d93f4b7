"""The weight form of an edit: the plan, the edits of tensors, writing them."""
