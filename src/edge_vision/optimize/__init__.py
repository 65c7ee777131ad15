"""Making a model smaller and faster: passes, the recipes that compose them, and the report of what each cost."""
