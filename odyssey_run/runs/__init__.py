"""One run: its folder, its journal and screen while it is made, what it states at its end, and how it is read again."""
