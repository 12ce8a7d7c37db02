"""Generated from `proto/lastunit/payment/v1`; never edited."""
