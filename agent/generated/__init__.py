"""How good a generator is: what is compared, the clips drawn for it, the figures, the table and the page."""
