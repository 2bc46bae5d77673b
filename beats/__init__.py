"""The audio representation: filterbank, BEATs encoder, units, feature cache, and the independent judge."""
