"""Generated from `proto/lastunit/admission/v1`; never edited."""
