"""Generated from `proto/lastunit/stock/v1`; never edited."""
