"""What looks at the numbers of a run while it goes, and says whether it learns. Changes nothing."""
