"""Trust regions: Fisher products, budgets, and the learners that step within them."""
