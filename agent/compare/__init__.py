"""Compare planners at equal budget: loops over rows and seeds, statistics, tables and plots."""
