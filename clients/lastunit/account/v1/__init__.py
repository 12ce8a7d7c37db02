"""Generated from `proto/lastunit/account/v1`; never edited."""
