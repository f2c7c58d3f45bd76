"""Methods that embed texts."""
