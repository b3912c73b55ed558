"""General purpose lines, and what is pressed."""
