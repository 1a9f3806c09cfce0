"""What people get to see of a study and of a task: summary, report, comparison, ladder."""
