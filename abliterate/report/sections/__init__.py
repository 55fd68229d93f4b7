"""What the page shows: a section is a file, and stands in the table of table.py."""
