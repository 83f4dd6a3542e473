"""What wandb is told of runs, and the views that show it there: workspace and report."""
