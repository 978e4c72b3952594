"""What people look at: pictures, the report page, summaries, and the files that a task writes with ``out=``."""
