"""Where refusal is represented: is what makes a model refuse at once the same vector as what makes it refuse later?"""
