"""Generated from `proto/lastunit/order/v1`; never edited."""
