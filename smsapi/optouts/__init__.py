"""Who may not be texted, by whom, since when, and how that is known."""
