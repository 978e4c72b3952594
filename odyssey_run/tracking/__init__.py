"""The journal of a run, which is the truth about it, and the uploader that tells MLflow what it says."""
