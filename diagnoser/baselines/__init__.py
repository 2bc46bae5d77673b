"""What the diagnoser is compared with: simple models and other networks, trained and chosen as it is."""
