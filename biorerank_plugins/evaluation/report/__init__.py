"""An evaluation as Markdown, HTML and plots."""
