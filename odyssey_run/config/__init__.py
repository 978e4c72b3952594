"""The request: what was typed and what files say, composed, checked, and made into one object."""
